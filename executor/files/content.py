"""The bytes and attributes of one file, from descriptor to descriptor."""

from __future__ import annotations

import errno
import os

from pybuild.image.layer.ownership import PREFIX as RESERVED
from pybuild.image.layer.writing import write_all

SMALL_BYTES = 256 << 10
BUFFER_BYTES = 1 << 20
_FICLONE = 0x40049409
CAPABILITY = "security.capability"

# What copy_file_range says where only reading and writing works.
_UNABLE = {
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EIO,
    errno.EBADF,
}
_cannot_clone: set[tuple[int, int]] = set()


def copy_content(source: int, target: int, status: os.stat_result) -> int:
    """Copy a regular file's bytes to an empty one, once, by the cheapest way there is.

    Holes stay holes where the file is large. Returns how many bytes the source had.
    """
    size = status.st_size
    if size <= SMALL_BYTES:
        return _by_hand(source, target, size)
    if _clone(source, target, status):
        return size
    if status.st_blocks * 512 < size:
        return _sparse(source, target, size)
    copied = 0
    while copied < size:
        try:
            count = os.copy_file_range(source, target, min(size - copied, 1 << 30))
        except OSError as error:
            if copied or error.errno not in _UNABLE:
                raise
            return _by_hand(source, target, size)
        if not count:
            # procfs and its like say a size and give nothing here.
            return copied + (_by_hand(source, target, size) if not copied else 0)
        copied += count
    return copied


def _by_hand(source: int, target: int, size: int) -> int:
    """Copy to the end, or until there is more than *size*: a growing file may have no end."""
    copied = 0
    # One more than there should be, so that a read that gives less has seen the end. A file that
    # says it is empty may be procfs's.
    room = min(size + 1, BUFFER_BYTES) if size else BUFFER_BYTES
    while copied <= size and (data := os.read(source, room)):
        copied += len(data)
        seen_end = copied == size and len(data) < room
        write_all(target, data)
        if seen_end:
            break
    return copied


def _clone(source: int, target: int, status: os.stat_result) -> bool:
    pair = (status.st_dev, os.fstat(target).st_dev)
    if pair in _cannot_clone:
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        _cannot_clone.add(pair)
        return False
    return True


def _sparse(source: int, target: int, size: int) -> int:
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        at = start
        while at < end:
            data = os.pread(source, min(BUFFER_BYTES, end - at), at)
            if not data:
                break
            written = 0
            while written < len(data):
                written += os.pwrite(target, data[written:], at + written)
            at += len(data)
        if at < end:
            break
    os.ftruncate(target, size)
    return os.fstat(source).st_size


def counted_xattrs(fd: int) -> list[tuple[str, bytes]]:
    """Return the extended attributes that belong to a file's content, sorted [KEY-2, CP-25].

    These are ``user.*`` and file capabilities, as in layers. The rest is of this machine: security
    labels, ACLs, ``trusted.*``, what overlayfs, a Mac or this builder noted down.
    """
    try:
        names = os.listxattr(fd)
    except OSError:
        return []
    attributes: list[tuple[str, bytes]] = []
    for name in sorted(names):
        counts = name == CAPABILITY or (
            name.startswith("user.")
            and not name.startswith(("user.overlay.", "user.com.apple.", RESERVED))
        )
        if counts:
            try:
                attributes.append((name, os.getxattr(fd, name)))
            except OSError:
                continue
    return attributes


def copy_xattrs(source: int, target: int) -> None:
    """Copy extended attributes as well as the target takes them [CP-23]."""
    for name, value in counted_xattrs(source):
        try:
            os.setxattr(target, name, value)
        except OSError:
            pass
