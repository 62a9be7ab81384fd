"""File modes as git stores them: whether the owner may execute, and nothing else.

A checkout gets its modes from the umask of whoever makes it, so the same commit has other modes on
a laptop than on a build machine. Seen through this they are equal.
"""

from __future__ import annotations

import stat


def as_git_has_it(mode: int) -> int:
    """Return *mode*, with or without a file type, as a checkout under the umask 022 would have it."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return kind | 0o777
    return kind | (0o755 if kind == stat.S_IFDIR or mode & stat.S_IXUSR else 0o644)
