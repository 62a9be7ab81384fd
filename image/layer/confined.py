"""File operations that cannot leave a directory: openat2, and removal by directory descriptors.

The trees that these work on are private to the caller while it works; what must be withstood is
their content (links, odd names, depth), not somebody who races us.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

_PATH_MAX = 4095
_SYS_OPENAT2 = 437  # the same on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_HOW = struct.pack(
    "QQQ",
    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
    0,
    _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
)
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
# Old container runtimes' seccomp filters answer EPERM to calls they do not know.
_ABSENT = (errno.ENOSYS, errno.EPERM)


def open_beneath(root_fd: int, path: bytes) -> int:
    """Open the directory *path* below *root_fd*, no part of which may be a symbolic link.

    Raises:
        OSError: ELOOP or ENOTDIR for a link on the way, ENOENT, EXDEV for ``..`` out of the root.
    """
    if not path:
        return os.open(b".", _OPEN_DIR, dir_fd=root_fd)
    if len(path) > _PATH_MAX:
        return walk_beneath(root_fd, path)
    fd = _syscall(_SYS_OPENAT2, root_fd, path, _HOW, len(_HOW))
    if fd >= 0:
        return int(fd)
    number = ctypes.get_errno()
    if number in _ABSENT:
        return walk_beneath(root_fd, path)
    raise OSError(number, os.strerror(number), os.fsdecode(path))


def walk_beneath(root_fd: int, path: bytes) -> int:
    """Do what `open_beneath` does one component at a time: for old kernels and for long paths."""
    fd = os.open(b".", _OPEN_DIR, dir_fd=root_fd)
    try:
        for part in path.split(b"/"):
            if part == b"..":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fsdecode(path))
            inner = os.open(part or b".", _OPEN_DIR, dir_fd=fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def remove(dir_fd: int, name: bytes) -> None:
    """Remove *name* in *dir_fd*, whatever it is, with all below it and at any depth."""
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except IsADirectoryError:
        pass
    except PermissionError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
    fd = os.open(name, _OPEN_DIR, dir_fd=dir_fd)
    try:
        trail: list[bytes] = []
        names = _clear(fd)
        pending = [names]
        while True:
            if pending[-1]:
                inner = pending[-1].pop()
                below = os.open(inner, _OPEN_DIR, dir_fd=fd)
                os.close(fd)
                fd = below
                trail.append(inner)
                pending.append(_clear(fd))
                continue
            pending.pop()
            if not trail:
                break
            above = os.open(b"..", _OPEN_DIR, dir_fd=fd)
            os.close(fd)
            fd = above
            os.rmdir(trail.pop(), dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def empty(dir_fd: int) -> None:
    """Remove everything in the directory."""
    for name in os.listdir(dir_fd):
        remove(dir_fd, os.fsencode(name))


def _clear(fd: int) -> list[bytes]:
    """Unlink all but the directories; return the directories' names."""
    directories: list[bytes] = []
    with os.scandir(fd) as entries:
        found = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
    for name, is_dir in found:
        if is_dir:
            directories.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return directories
