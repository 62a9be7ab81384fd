"""Marks of a tree by stat(2), from which later changes in it are found.

Whatever is done to a file sets its time of change, which nobody can set back; only on file systems
whose clock has not moved on could it be missed, so `wait_for_the_clock` waits for that.
"""

from __future__ import annotations

import os
import stat
import time

from pybuild.executor.zygote import syscalls
from pybuild.image.layer.descent import directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Mark = tuple[int, ...]

_CLOCK_REALTIME_COARSE = 5


def mark(status: os.stat_result) -> Mark:
    """Return the mark by which a change of an entry is seen."""
    return (
        *(status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns, status.st_rdev),
    )


def birth(fd: int, name: bytes, status: os.stat_result) -> Mark:
    """Return the mark of a directory that another with its place and inode number has not.

    File systems give the numbers of what was deleted out again, ext4 at once.
    """
    return status.st_ino, syscalls.birth_ns(fd, name)


def linked_mark(status: os.stat_result) -> Mark:
    """`mark` for trees of links: files are replaced there, and their other names count as well.

    Whoever links or unlinks another name of a file changes its time of change.
    """
    return mark(status) if stat.S_ISDIR(status.st_mode) else (status.st_ino,)


class Marks:
    """The marks of a tree.

    Attributes:
        entries: the mark of each entry, by directory and name; the root's path is empty.
        births: of each directory that is in the tree, by path.
    """

    def __init__(self) -> None:
        self.entries: dict[bytes, dict[bytes, Mark]] = {}
        self.births: dict[bytes, Mark] = {}


def scan(root: str, *, linked: bool = False) -> Marks:
    """Return the marks of everything in the tree *root*, which nobody changes meanwhile."""
    take = linked_mark if linked else mark
    marks = Marks()
    for fd, prefix, below in directories(root):
        below += _directory(fd, prefix.rstrip(b"/"), marks, take)
    return marks


def _directory(
    fd: int, path: bytes, marks: Marks, take: Callable[[os.stat_result], Mark]
) -> list[bytes]:
    """Note what the directory *fd* holds; return the names of its directories."""
    below: list[bytes] = []
    here: dict[bytes, Mark] = {}
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            status = entry.stat(follow_symlinks=False)
            here[name] = take(status)
            if stat.S_ISDIR(status.st_mode):
                below.append(name)
                inside = path + b"/" + name if path else name
                marks.births[inside] = birth(fd, name, status)
    marks.entries[path] = here
    return below


def wait_for_the_clock() -> None:
    """Return when the kernel gives files another time than it has given until now."""
    before = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) == before:
        time.sleep(0.001)
