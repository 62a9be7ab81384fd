"""Whether what a copy would make is in its place already.

Then it is left alone, and the layer does not have it a second time: who copies ``/usr/local`` of one
stage over that of another, or everything after the list of packages, sends what is new. Times count in
whole seconds, as in layers, so that a base that was pulled answers like one that was made here. What is
equal to a file's last byte stays one inode with its other names below, though the source is not.
"""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.content import BUFFER_BYTES, counted_xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.files.owners import Ids

_SECOND = 1_000_000_000
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Look:
    """The attributes that a copy is going to have: permissions, owner, modification time (ns)."""

    __slots__ = ("ids", "mode", "mtime_ns")

    def __init__(self, ids: Ids, mode: int, mtime_ns: int) -> None:
        self.ids = ids
        self.mode = mode
        self.mtime_ns = mtime_ns

    def is_of(self, status: os.stat_result, *, has_mode: bool = True) -> bool:
        return (
            status.st_mtime_ns // _SECOND == self.mtime_ns // _SECOND
            and (status.st_uid, status.st_gid) == self.ids
            and (not has_mode or stat.S_IMODE(status.st_mode) == self.mode)
        )


def is_same_file(
    source: int, size: int, fd: int, name: str, status: os.stat_result, look: Look
) -> bool:
    """Return whether *name* in the directory *fd* is a file like *source* with that *look*.

    Args:
        size: the source's, in bytes.
        status: of what is there, with what is noted about it.
    """
    if not stat.S_ISREG(status.st_mode) or status.st_size != size or not look.is_of(status):
        return False
    try:
        there = os.open(name, _READ, dir_fd=fd)
    except OSError:
        return False
    try:
        return counted_xattrs(source) == counted_xattrs(there) and _is_equal(source, there, size)
    finally:
        os.close(there)


def is_same_link(text: str, fd: int, name: str, status: os.stat_result, look: Look) -> bool:
    """Return whether *name* in the directory *fd* is a symbolic link to *text* with that *look*."""
    return (
        stat.S_ISLNK(status.st_mode)
        and look.is_of(status, has_mode=False)
        and os.readlink(name, dir_fd=fd) == text
    )


def _is_equal(one: int, other: int, size: int) -> bool:
    """Compare two files from their first byte on; their positions stay."""
    at = 0
    while True:
        left, right = os.pread(one, BUFFER_BYTES, at), os.pread(other, BUFFER_BYTES, at)
        both = min(len(left), len(right))  # either may be less than there is
        if left[:both] != right[:both]:
            return False
        if not both:
            return at == size and left == right
        at += both
