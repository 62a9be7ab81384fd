"""Opening a file of the store to read it, whatever has been put in its place.

A pipe would be waited for, and a device may never end: readers of the store get an error at once instead.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISREG


class NotPlain(OSError):
    """Something is there, and it is no regular file."""


def plain(path: str, flags: int) -> int:
    """Open *path* for `open`, as its ``opener``. Raises OSError, `NotPlain` among them."""
    fd = os.open(path, flags | os.O_NONBLOCK)
    if not S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotPlain(errno.EINVAL, "not a regular file", path)
    return fd
