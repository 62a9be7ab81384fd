"""Trees of which most entries are only listed: the files that patterns match, and a file about all others.

A client that wants to look at a large directory before it reads in it has its entries listed in one
file, each as the protocol has it behind its length in four bytes, little-endian.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pybuild.buildkit.fsutil.packet import Stat, stat_bytes
from pybuild.buildkit.fsutil.receiver import BadEntry, shown

if TYPE_CHECKING:
    from pybuild.buildkit.fsutil.writer import TreeWriter
    from pybuild.model.patterns import PatternMatcher

NAME = ".fsutil-metadata"
MOST_BYTES = 256 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class MetadataWriter:
    """A `receiver.EntrySink` that hands the matching entries to *writer*, with the directories above them.

    Args:
        root: the directory that *writer* writes below.
    """

    def __init__(self, writer: TreeWriter, root: str, matcher: PatternMatcher) -> None:
        self._writer = writer
        self._root = root
        self._matcher = matcher
        self._list = bytearray()
        self._waiting: list[tuple[int, Stat, int]] = []  # directories without a match so far
        self._files: set[bytes] = set()

    def entry(self, id: int, stat_: Stat, mode: int) -> bool:
        path = stat_.path
        if path == NAME.encode():
            return False
        data = stat_bytes(stat_)
        if len(self._list) + len(data) > MOST_BYTES:
            raise BadEntry(f"a list of more than {MOST_BYTES >> 20} MiB")
        self._list += len(data).to_bytes(4, "little") + data
        folder = path.rpartition(b"/")[0]
        while self._waiting and self._waiting[-1][1].path != folder:
            self._waiting.pop()
        if not self._matcher.matches(os.fsdecode(path)):
            if stat.S_ISDIR(mode):
                self._waiting.append((id, stat_, mode))
            return False
        for above in self._waiting:
            self._writer.entry(*above)
        self._waiting.clear()
        if stat.S_ISREG(mode):
            if stat_.linkname and stat_.linkname not in self._files:
                raise BadEntry(f"{shown(path)} is a hard link to what is only listed")
            self._files.add(path)
        return self._writer.entry(id, stat_, mode)

    def data(self, id: int, pieces: list[memoryview]) -> None:
        self._writer.data(id, pieces)

    def end(self, id: int) -> None:
        self._writer.end(id)

    def listed(self) -> None:
        self._writer.listed()
        self._files.clear()

    def finish(self) -> None:
        """Finish the tree, and write the list beside it."""
        self._writer.finish()
        fd = os.open(os.path.join(self._root, NAME), _CREATE, 0o644)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o644)
            file.write(self._list)
        os.utime(os.path.join(self._root, NAME), (0, 0))
