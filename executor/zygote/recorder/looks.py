"""The stat family of calls, answered with the owner that is noted.

Where nothing is noted the kernel answers itself: the arguments of these calls decide nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.recorder.owners import Owners, statx
from pybuild.executor.zygote.recorder.peer import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    Call,
    magic,
)
from pybuild.image.layer import ownership

_LOW = 0xFFFFFFFF
_SYNC_TYPES = 0x6000
# struct stat: dev ino nlink mode uid gid rdev size blksize blocks and three times
_X86_64 = struct.Struct("=QQQIII4xQqqq6q24x")
_AARCH64 = struct.Struct("=QQIIIIQ8xqi4xq6q8x")


class StatCalls:
    """Answers for them."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def stat(self, call: Call) -> None:
        self._stat(call, AT_FDCWD, call.args[0], call.args[1], 0)

    def lstat(self, call: Call) -> None:
        self._stat(call, AT_FDCWD, call.args[0], call.args[1], AT_SYMLINK_NOFOLLOW)

    def fstat(self, call: Call) -> None:
        self._stat(call, call.args[0], 0, call.args[1], AT_EMPTY_PATH)

    def newfstatat(self, call: Call) -> None:
        self._stat(call, call.args[0], call.args[1], call.args[2], call.args[3] & _LOW)

    def _stat(self, call: Call, dir_fd: int, path: int, out: int, flags: int) -> None:
        fd = self._find(call, dir_fd, path, flags)
        if fd < 0:
            call.proceed()
            return
        try:
            raw = os.fstat(fd)
            status = self._look(fd, raw)
        finally:
            os.close(fd)
        if status is raw:
            call.proceed()
            return
        call.store(out, pack(status))
        call.succeed()

    def statx(self, call: Call) -> None:
        dir_fd, path, flags, mask, out, _ = call.args
        flags &= _LOW
        fd = self._find(call, dir_fd, path, flags)
        if fd < 0:
            call.proceed()
            return
        try:
            raw = os.fstat(fd)
            status = self._look(fd, raw)
            if status is raw:
                call.proceed()
                return
            data = statx(fd, flags & _SYNC_TYPES, mask & _LOW)
        finally:
            os.close(fd)
        struct.pack_into("=IIH", data, 20, status.st_uid, status.st_gid, status.st_mode)
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            device = status.st_rdev
            struct.pack_into("=II", data, 128, os.major(device), os.minor(device))
        call.store(out, bytes(data))
        call.succeed()

    def _find(self, call: Call, dir_fd: int, path: int, flags: int) -> int:
        """Return a descriptor of the call's file; -1 leaves it to the kernel: an error, say."""
        try:
            empty = bool(flags & AT_EMPTY_PATH)
            name = b"" if empty and not path else call.text(path)
            follow = not flags & AT_SYMLINK_NOFOLLOW
            return call.find(dir_fd, name, follow=follow, empty=empty)
        except OSError:
            return -1

    def _look(self, fd: int, raw: os.stat_result) -> os.stat_result:
        owner = self._owners.noted(fd, raw)
        node = None
        if stat.S_ISREG(raw.st_mode) and not raw.st_size:
            try:
                node = ownership.parse_node(os.getxattr(magic(fd), ownership.NODE))
            except OSError:
                pass
        return ownership.amended(raw, owner, node)


def pack(status: os.stat_result, machine: str = syscalls.MACHINE) -> bytes:
    """Return the kernel's ``struct stat``."""
    times: list[int] = []
    for time in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns):
        times += divmod(time, 1_000_000_000)
    head = (status.st_dev, status.st_ino)
    ids = (status.st_uid, status.st_gid, status.st_rdev, status.st_size)
    tail = (status.st_blksize, status.st_blocks, *times)
    if machine == "x86_64":
        return _X86_64.pack(*head, status.st_nlink, status.st_mode, *ids, *tail)
    if machine == "aarch64":
        return _AARCH64.pack(*head, status.st_mode, status.st_nlink, *ids, *tail)
    raise OSError(errno.ENOSYS, f"no struct stat for {machine}")
