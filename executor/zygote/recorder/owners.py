"""The notes about files, while a step runs.

What can carry an attribute carries its note itself. For the rest (links, FIFOs, sockets, pipes,
files on a file system without attributes) there is a table: by inode and birth, because inode
numbers are given out again; for what lies in the deltas below, which nobody deletes, by inode.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from pybuild.executor.zygote.recorder.peer import magic
from pybuild.image.layer import ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.image.layer.ownership import Ids, OwnershipNotes

STATX_BYTES = 256
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_MAX_NOTES = 1 << 20
_libc = ctypes.PyDLL(None, use_errno=True)
_statx = _libc.statx
_fchownat = _libc.fchownat


class Owners:
    """Reads and writes owners through O_PATH descriptors."""

    def __init__(self, below: OwnershipNotes) -> None:
        self._below = below.owners
        self._noted: dict[tuple[int, int, bytes], Ids] = {}
        self._pinned: list[int] = []

    def of(self, fd: int, status: os.stat_result | None = None) -> Ids:
        """Return the owner of the object behind *fd*."""
        return self.noted(fd, status) or (0, 0)

    def noted(self, fd: int, status: os.stat_result | None = None) -> Ids | None:
        """Return its owner, None where nothing is noted: it is as the kernel says."""
        try:
            return ownership.parse_owner(os.getxattr(magic(fd), ownership.OWNER))
        except OSError:
            pass
        if not self._below and not self._noted:
            return None
        if status is None:
            status = os.fstat(fd)
        if self._noted:
            owner = self._noted.get(_key(fd))
            if owner is not None:
                return owner
        return self._below.get(status.st_ino) if not ownership.can_carry(status.st_mode) else None

    def give(self, fd: int, uid: int, gid: int, status: os.stat_result) -> None:
        """Note an owner.

        Raises:
            OSError: EROFS and what else the kernel says; ENOMEM, a step has made a million notes.
        """
        # The kernel's own chown copies the file up, drops its set-id bits and capabilities, and
        # refuses where nothing may be changed.
        if _fchownat(fd, b"", 0, 0, _AT_EMPTY_PATH) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        if ownership.can_carry(status.st_mode):
            try:
                _note(fd, uid, gid)
            except OSError:
                pass  # a file system without attributes, or one that is not the step's to change
            else:
                return
        key = _key(fd)
        if len(self._noted) >= _MAX_NOTES and key not in self._noted:
            raise OSError(errno.ENOMEM, "")
        self._noted[key] = (uid, gid)

    def bring_up(self, fd: int) -> None:
        """Copy a link or FIFO up that has its owner from the list of a delta below.

        Left to the kernel, the copy would have another number and no note. It is held open, because
        overlay forgets that the two are one as soon as it may.
        """
        status = os.fstat(fd)
        if ownership.can_carry(status.st_mode) or status.st_ino not in self._below:
            return
        if _key(fd) not in self._noted:
            self._pinned.append(os.dup(fd))
            self.give(fd, *self._below[status.st_ino], status)

    def remaining(self, fd: int) -> Ids | None:
        """Return the ids in the table for a file that cannot carry a note."""
        return self._noted.get(_key(fd))

    @property
    def has_table(self) -> bool:
        return bool(self._noted or self._below)


def _note(fd: int, uid: int, gid: int) -> None:
    if uid or gid:
        os.setxattr(magic(fd), ownership.OWNER, b"%d:%d" % (uid, gid))
        return
    try:
        os.removexattr(magic(fd), ownership.OWNER)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def statx(fd: int, flags: int, mask: int) -> bytearray:
    """Return the structure of statx(2) for the object behind *fd*."""
    buffer = ctypes.create_string_buffer(STATX_BYTES)
    if _statx(fd, b"", flags | _AT_EMPTY_PATH, ctypes.c_uint(mask), buffer) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return bytearray(buffer.raw)


def _key(fd: int) -> tuple[int, int, bytes]:
    """Return a key that no other file has, through an overlay as well as below it."""
    data = statx(fd, 0, 0xFFF)
    (number,) = struct.unpack_from("=Q", data, 32)
    born = bytes(data[80:92])
    if any(born):
        return number, 0, born
    (device,) = struct.unpack_from("=Q", data, 136)
    return number, device, born
