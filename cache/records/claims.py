"""Claims on the making of results, between processes: a byte of one file for each key.

The file stays empty: a lock may be on what is not there. It belongs to the open file, so the kernel
frees it when a process dies, and two stores of one process claim beside each other. To claim and to
release are a system call each, and nothing is left behind. Where the file system has no locks,
everybody may make everything, as if there were nobody else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.model.digest import Digest

_TAKEN = (errno.EAGAIN, errno.EACCES)
_LAST = (1 << 62) - 1
# struct flock: type, whence, start, length, and the process id that must be 0.
_FLOCK = struct.Struct("@hhqqi4x" if struct.calcsize("P") == 8 else "@hhqqi")


class KeyClaims:
    """The claims of this process on one store. Safe to use from threads."""

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, "locks", "making")
        self._fd = -1
        self._lock = allocate_lock()
        self._counts: dict[int, int] = {}
        self._is_without = False

    def take(self, key: Digest) -> bool:
        """Claim *key*, as often as one likes; False: another process has it."""
        place = _place(key)
        with self._lock:
            if place not in self._counts and not self._set(fcntl.F_WRLCK, place):
                return False
            self._counts[place] = self._counts.get(place, 0) + 1
            return True

    def release(self, key: Digest) -> None:
        """Take back one claim on *key*; the last one lets others have it."""
        place = _place(key)
        with self._lock:
            left = self._counts.get(place, 0) - 1
            if left > 0:
                self._counts[place] = left
            elif left == 0:
                del self._counts[place]
                self._set(fcntl.F_UNLCK, place)

    def _set(self, kind: int, place: int) -> bool:
        if self._is_without:
            return True
        try:
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self._path, flags, 0o600)
            wish = _FLOCK.pack(kind, os.SEEK_SET, place, 1, 0)
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, wish)
        except OSError as error:
            if error.errno in _TAKEN and self._fd >= 0:
                return False
            self._is_without = True
        return True

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self._is_without = -1, True
            self._counts.clear()


def _place(key: Digest) -> int:
    """Return the byte of a key; that of another key, once in an age, makes one wait for nothing."""
    return int(key.hex[:16], 16) & _LAST
