"""One entry of a tree that is no directory, in a second place: as a link to it, or as a copy."""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.files.content import copy_content
from pybuild.image.layer import ownership

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OURS = ("user.overlay.", "trusted.overlay.")
# Labels, and what a user namespace or the file system does not let us set.
_NOT_FOR_US = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL)
_CANNOT_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)


def link(source: int, name: str, target: int, status: os.stat_result) -> None:
    """Give *name* in the directory *source* the same name in *target*: one inode, two places.

    Only for trees in which files are replaced and never changed.
    """
    try:
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        copy(source, name, target, status)


def copy(source: int, name: str, target: int, status: os.stat_result) -> None:
    """Make *name* in *target* a file of its own that says the same.

    The names of one file become files, as they do when overlay copies one of them up.
    """
    mode = status.st_mode
    if stat.S_ISREG(mode):
        _file(source, name, target, status)
        return
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, mode, status.st_rdev, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        os.chmod(name, stat.S_IMODE(mode), dir_fd=target)
    os.utime(name, ns=_times(status), dir_fd=target, follow_symlinks=False)


def copy_real(source: int, name: str, target: int, status: os.stat_result) -> None:
    """`copy`, for a step that may open devices: a note of one becomes the device if it can."""
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        node = ownership.read_node(f"/proc/self/fd/{source}/{name}")
        if node is not None:
            try:
                os.mknod(name, node[0] | 0o600, node[1], dir_fd=target)
            except PermissionError:
                pass
            else:
                os.chown(name, status.st_uid, status.st_gid, dir_fd=target)
                os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
                os.utime(name, ns=_times(status), dir_fd=target)
                return
    copy(source, name, target, status)


def copy_open(source: int, path: str, status: os.stat_result) -> None:
    """Make the new file *path* a copy of the file or device behind an O_PATH descriptor."""
    if not stat.S_ISREG(status.st_mode):
        os.mknod(path, status.st_mode, status.st_rdev)
        os.chown(path, status.st_uid, status.st_gid)
        os.chmod(path, stat.S_IMODE(status.st_mode))
        return
    read = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _copy_file(read, os.open(path, _CREATE, 0o600), status)
    finally:
        os.close(read)


def describe(source: int, target: int, status: os.stat_result) -> None:
    """Give the open directory *target* owner, mode, attributes and times of *source*."""
    _attributes(source, target, status)
    os.utime(target, ns=_times(status))


def _file(source: int, name: str, target: int, status: os.stat_result) -> None:
    read = os.open(name, _READ, dir_fd=source)
    try:
        _copy_file(read, os.open(name, _CREATE, 0o600, dir_fd=target), status)
    finally:
        os.close(read)


def _copy_file(source: int, target: int, status: os.stat_result) -> None:
    """Copy everything of a regular file, and close *target*."""
    try:
        copy_content(source, target, status)
        _attributes(source, target, status)
        os.utime(target, ns=_times(status))
    finally:
        os.close(target)


def _attributes(source: int, target: int, status: os.stat_result) -> None:
    """Owner first: chown drops set-id bits and capabilities."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if name.startswith(_OURS):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in _NOT_FOR_US:
                raise


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns
