"""Opening a file of the store to read it, whatever has been put in its place.

A pipe would be waited for, and a device may never end: readers of the store get an error at once instead.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISREG

_PIECE_BYTES = 1 << 16


class NotPlain(OSError):
    """Something is there, and it is no regular file."""


def plain(path: str, flags: int) -> int:
    """Open *path* for `open`, as its ``opener``. Raises OSError, `NotPlain` among them."""
    fd = os.open(path, flags | os.O_NONBLOCK)
    if not S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotPlain(errno.EINVAL, "not a regular file", path)
    return fd


def whole(fd: int) -> bytes:
    """Return the rest of a file, and close it: a third of the system calls of `open`, for small ones.

    Raises:
        OSError: it cannot be read.
    """
    try:
        data = b""
        while piece := os.read(fd, _PIECE_BYTES):
            data += piece
            if len(piece) < _PIECE_BYTES:  # only the end of a regular file gives less
                break
        return data
    finally:
        os.close(fd)
