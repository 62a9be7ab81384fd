"""File operations that cannot leave a directory: openat2, and removal by directory descriptors.

The trees that these work on may be a stranger's who changes them meanwhile, as where root writes a
result into a directory of somebody else's: a directory can be moved away while we are in it, and
then ``..`` is another one; what was just made can be something else a moment later.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from pybuild.image.layer.descent import OPEN_DIR

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
        return os.open(b".", OPEN_DIR, dir_fd=root_fd)
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
    fd = os.open(b".", OPEN_DIR, dir_fd=root_fd)
    try:
        for part in path.split(b"/"):
            if part == b"..":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fsdecode(path))
            inner = os.open(part or b".", OPEN_DIR, dir_fd=fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def climb(fd: int, above: os.stat_result) -> int:
    """Close *fd* and open the directory that it is in, if that is still *above*.

    Raises:
        OSError: EXDEV; it was moved away while we were in it.
    """
    try:
        parent = os.open(b"..", OPEN_DIR, dir_fd=fd)
    finally:
        os.close(fd)
    if os.path.samestat(os.fstat(parent), above):
        return parent
    os.close(parent)
    raise OSError(errno.EXDEV, "a directory was moved away by somebody else while it was in use")


def hold(dir_fd: int, name: bytes, kind: int) -> int:
    """Open what we have just made at *name*, or looked at, for `at` and not for reading or writing.

    Args:
        kind: its type, as in a mode.

    Raises:
        OSError: EXDEV; somebody else has put another thing in its place. Or it is gone.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    status = os.fstat(fd)
    is_alone = kind == stat.S_IFDIR or status.st_nlink == 1  # no other name of somebody's
    if stat.S_IFMT(status.st_mode) == kind and is_alone:
        return fd
    os.close(fd)
    raise OSError(errno.EXDEV, "somebody else put another thing in its place", os.fsdecode(name))


def at(fd: int) -> str:
    """Return a path of what is open, for calls that take no such descriptor."""
    return f"/proc/self/fd/{fd}"


def change_mode(dir_fd: int, name: bytes, kind: int, mode: int) -> None:
    """chmod(2) that follows no link; raises as `hold`."""
    fd = hold(dir_fd, name, kind)
    try:
        os.chmod(at(fd), mode)
    finally:
        os.close(fd)


def remove(dir_fd: int, name: bytes) -> None:
    """Remove *name* in *dir_fd*, whatever it is, with all below it and at any depth.

    Raises:
        OSError: it cannot be, or somebody else moves directories of it away meanwhile.
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except IsADirectoryError:
        pass
    except PermissionError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
    fd = os.open(name, OPEN_DIR, dir_fd=dir_fd)
    try:
        trail: list[tuple[bytes, os.stat_result]] = []
        pending = [clear(fd)]
        while True:
            if pending[-1]:
                inner = pending[-1].pop()
                below = os.open(inner, OPEN_DIR, dir_fd=fd)
                trail.append((inner, os.fstat(fd)))
                os.close(fd)
                fd = below
                pending.append(clear(fd))
                continue
            pending.pop()
            if not trail:
                break
            inner, above = trail.pop()
            fd, left = -1, fd
            fd = climb(left, above)
            os.rmdir(inner, dir_fd=fd)
    finally:
        if fd >= 0:
            os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def empty(dir_fd: int) -> None:
    """Remove everything in the directory."""
    for name in os.listdir(dir_fd):
        remove(dir_fd, os.fsencode(name))


def clear(fd: int) -> list[bytes]:
    """Unlink all but the directories; return the directories' names."""
    directories: list[bytes] = []
    with os.scandir(fd) as entries:
        children = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
    for name, is_dir in children:
        if is_dir:
            directories.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return directories
