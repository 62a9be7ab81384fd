"""The device nodes of a step, its own wherever we may make some [SBX-7].

Mode, owner, times and attributes belong to a node's inode. Were the host's nodes bound into a step
that is root, ``RUN chmod 0 /dev/null`` would break the machine. So a step has nodes made for it. Where
the kernel refuses that, above all in a user namespace, it has the host's, mounted read-only: a
device can be written to through such a mount, and its inode cannot be changed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from pybuild.executor.zygote import isolation, syscalls

NAMES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
"""The devices of every step, with the numbers that they have on every Linux."""

_STANDARD = tuple((name, os.makedev(*numbers)) for name, numbers in NAMES.items())
_NAMES = {device: name for name, device in _STANDARD}
# Of the kernel without CAP_MKNOD, in a user namespace or by a device cgroup; of SELinux; of a filter.
_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)
_READONLY = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC


def fill(dev: int) -> None:
    """Put the nodes that every step has into the tmpfs *dev*, which is mounted nodev from then on.

    A step may make nodes (CAP_MKNOD) and must not open them, so those that it may open are mounts
    of their own.
    """
    before = os.umask(0)
    try:
        mounts = [
            (name, _standard(dev, name, device) or _borrow(dev, name, f"/dev/{name}"))
            for name, device in _STANDARD
        ]
    finally:
        os.umask(before)
    syscalls.mount_setattr(dev, syscalls.MOUNT_ATTR_NODEV)
    for name, node in mounts:
        _mount(node, dev, name)


def _mount(node: int, dev: int, name: str) -> None:
    syscalls.move_mount(node, dev, name)
    os.close(node)


def _standard(dev: int, name: str, device: int) -> int:
    """Return a mount of a new node in *dev*; 0 where none can be made."""
    if isolation.uses_userxattr():  # no user namespace makes any
        return 0
    try:
        os.mknod(name, stat.S_IFCHR | 0o666, device, dir_fd=dev)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return 0
    return syscalls.open_tree(dev, name)


def _borrow(dev: int, name: str, source: str) -> int:
    """Return a read-only mount of the host's node *source*, and make a file *name* to mount it on."""
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=dev))
    return readonly(syscalls.AT_FDCWD, source)


def readonly(dir_fd: int, path: str = "") -> int:
    """Return a mount of a node of the host that lets nobody change the node itself."""
    node = syscalls.open_tree(dir_fd, path)
    syscalls.mount_setattr(node, _READONLY)
    return node


def copy(path: str, status: os.stat_result, dir_fd: int | None = None) -> bool:
    """Make a node as *status* tells, of the same mode and owner; false where none can be made."""
    if isolation.uses_userxattr():
        return False
    try:
        os.mknod(path, status.st_mode, status.st_rdev, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return False
    os.chown(path, status.st_uid, status.st_gid, dir_fd=dir_fd)
    os.chmod(path, stat.S_IMODE(status.st_mode), dir_fd=dir_fd)
    return True


def put(dev: int, name: str, source: str, status: os.stat_result) -> None:
    """Give the tmpfs *dev*, which is not mounted nodev, a node like *source* of the host."""
    if not copy(name, status, dev):
        _mount(_borrow(dev, name, source), dev, name)


def own_stream(fd: int, dev: str) -> int:
    """Return *fd*, or where it is one of `NAMES` in somebody else's /dev, the same of *dev*.

    But for a terminal, which is somebody's.
    """
    status = os.fstat(fd)
    name = _NAMES.get(status.st_rdev, "tty") if stat.S_ISCHR(status.st_mode) else "tty"
    if name == "tty":
        return fd
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK)
    return os.open(f"{dev}/{name}", flags | os.O_CLOEXEC)
