"""From a tree and what it was to the delta between them, as overlayfs would have written it.

What is new or changed is moved over, not copied: the tree is used up. What is gone becomes a
whiteout; a directory in the place of something else is opaque.
"""

from __future__ import annotations

import os
import stat

from pybuild.executor.zygote.copied import leaves
from pybuild.executor.zygote.copied.scanning import (
    birth,
    linked_mark,
    mark,
)
from pybuild.image.layer import overlayfs
from pybuild.image.layer.descent import OPEN_DIR, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.zygote.copied.scanning import Marks


class _Level:
    """A directory of the tree that was there before.

    Attributes:
        path: ends with a slash but at the root.
        status: of before we took anything out of it.
        upper: its counterpart in the delta; -1: there is none yet.
        below: names of directories still to be compared.
    """

    def __init__(self, name: bytes, path: bytes, status: os.stat_result, upper: int) -> None:
        self.name = name
        self.path = path
        self.status = status
        self.upper = upper
        self.below: list[bytes] = []


def collect(root: str, before: Marks, upper: str, *, userxattr: bool, linked: bool = False) -> None:
    """Move the difference between the tree *root* and *before* into the empty directory *upper*.

    Both lie on one file system, and nobody else has them.

    Args:
        linked: *before* is a scan of a tree of links.
    """
    work = _Collecting(before, overlayfs.namespace(userxattr), linked)
    try:
        work.run(root, upper)
    finally:
        work.close()


class _Collecting:
    def __init__(self, before: Marks, own: str, linked: bool) -> None:
        self._before = before
        self._own = own
        self._mark = linked_mark if linked else mark
        self._levels: list[_Level] = []
        self._fd = -1

    def close(self) -> None:
        for level in self._levels:
            if level.upper >= 0:
                os.close(level.upper)
        if self._fd >= 0:
            os.close(self._fd)

    def run(self, root: str, upper: str) -> None:
        self._fd = os.open(root, OPEN_DIR)
        self._levels.append(_Level(b"", b"", os.fstat(self._fd), os.open(upper, OPEN_DIR)))
        self._compare(self._levels[0])
        while self._levels:
            level = self._levels[-1]
            if level.below:
                self._descend(level, level.below.pop())
                continue
            self._finish(level)

    def _descend(self, level: _Level, name: bytes) -> None:
        self._fd = step(self._fd, name)
        status = os.fstat(self._fd)
        inner = _Level(name, level.path + name + b"/", status, -1)
        self._levels.append(inner)
        if self._before.entries[level.path.rstrip(b"/")][name] != self._mark(status):
            self._ensure()
        self._compare(inner)

    def _finish(self, level: _Level) -> None:
        if level.upper >= 0:
            leaves.describe(self._fd, level.upper, level.status)
            os.close(level.upper)
            level.upper = -1
        self._levels.pop()
        if self._levels:
            self._fd = step(self._fd, b"..")

    def _compare(self, level: _Level) -> None:
        known = self._before.entries[level.path.rstrip(b"/")]
        with os.scandir(self._fd) as entries:
            present = {os.fsencode(e.name): e.stat(follow_symlinks=False) for e in entries}
        for name in sorted(known.keys() - present.keys()):
            overlayfs.make_whiteout(self._ensure(), name)
        for name, status in sorted(present.items()):
            was = known.get(name)
            if not stat.S_ISDIR(status.st_mode):
                if was != self._mark(status):
                    os.rename(name, name, src_dir_fd=self._fd, dst_dir_fd=self._ensure())
            elif self._before.births.get(level.path + name) == birth(self._fd, name, status):
                level.below.append(name)
            else:
                self._take_directory(name, status, hides=was is not None)

    def _take_directory(self, name: bytes, status: os.stat_result, *, hides: bool) -> None:
        upper = self._ensure()
        os.rename(name, name, src_dir_fd=self._fd, dst_dir_fd=upper)
        fd = os.open(name, OPEN_DIR, dir_fd=upper)
        try:
            if hides:
                overlayfs.set_opaque(fd, self._own)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)

    def _ensure(self) -> int:
        """Return the counterpart of the directory that we are in, made with those above it."""
        first = len(self._levels) - 1
        while self._levels[first].upper < 0:
            first -= 1
        for above, level in zip(self._levels[first:], self._levels[first + 1 :], strict=False):
            os.mkdir(level.name, 0o700, dir_fd=above.upper)
            level.upper = os.open(level.name, OPEN_DIR, dir_fd=above.upper)
        return self._levels[-1].upper
