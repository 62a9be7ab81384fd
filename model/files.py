"""Files as caches know them: modes as git stores them, digests of content. Lean."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from typing import Protocol

    class FileIndex(Protocol):
        """Remembers digests of files by what stat says of them."""

        def get(self, status: os.stat_result) -> bytes | None: ...

        def put(self, status: os.stat_result, body: bytes) -> None:
            """Called with the status from before the file was read."""
            ...


def body_state(xattrs: list[tuple[str, bytes]]) -> hashlib._Hash:  # pyright: ignore[reportPrivateUsage]
    """Return the digester of a file's content: its bytes are still to be added."""
    import hashlib  # which loads OpenSSL: workers that copy hash nothing

    state = hashlib.sha256()
    for name, value in xattrs:
        raw = os.fsencode(name)
        state.update(b"%d:%s%d:%s" % (len(raw), raw, len(value), value))
    state.update(b"\0")
    return state


def as_git_has_it(mode: int) -> int:
    """Return *mode*, with or without a file type, as a checkout under the umask 022 would have it.

    A checkout gets its modes from the umask of whoever makes it, so the same commit has other modes on
    a laptop than on a build machine. Seen through this they are equal.
    """
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return kind | 0o777
    return kind | (0o755 if kind == stat.S_IFDIR or mode & stat.S_IXUSR else 0o644)
