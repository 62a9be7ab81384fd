"""How the files of a tree looked while they were digested, to tell whether they still do.

Equal digests of two moments do not say that nothing happened between them: a file may have been
another one and back. Its times tell, except for a change in the tick of the clock in which it was
first looked at, so whoever needs to be sure reads after that tick (`Seen.wait_s`).

Lean: used beside `treehash`.
"""

from __future__ import annotations

import hashlib
import marshal

from pybuild.executor.trees.statindex import COARSE_TICK_NS, TICK_NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from pybuild.executor.trees.treefiles import Listed


class Seen:
    """The stat results of all files that counted in one digest.

    Attributes:
        began_ns: a moment before all the looks.
        newest_ns: the last change of the youngest, as far as it was not known before.
        moved: a path that changed while it was read; empty if none did.
    """

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self.began_ns = 0
        self.newest_ns = 0
        self.moved = ""

    @property
    def signature(self) -> bytes:
        return self._state.digest()

    def place(self, path: str, status: os.stat_result) -> None:
        """Take in a directory whose names are read, a link on the way, or a single file."""
        stamps = (status.st_dev, status.st_ino, status.st_mode, status.st_size)
        times = (status.st_mtime_ns, status.st_ctime_ns)
        self._state.update(marshal.dumps((path, stamps, times), 2))
        self.newest_ns = max(self.newest_ns, status.st_ctime_ns)

    def files(self, signature: bytes, listed: Listed) -> None:
        """Take in a directory's files by their signature; *listed* are those that may be young."""
        self._state.update(signature)
        for _, status in listed:
            self.newest_ns = max(self.newest_ns, status.st_ctime_ns)

    def wait_s(self, now_ns: int) -> float:
        """Return how long to wait until each later change shows in the times."""
        tick = TICK_NS if self.newest_ns % 1_000_000_000 else COARSE_TICK_NS
        # A clock that is wrong by more is not waited for.
        return max(0, min(self.newest_ns + tick - now_ns, tick)) / 1e9
