"""Remembers the digests of a directory's files by what stat says of them.

One small file per context. A file's entry counts only while device, inode, size, times and mode
are the same. Its bytes might still change without that: within one tick of the clock that stamps
files. So nothing is remembered that was changed less than a tick before it was read.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAGIC = b"pbsi\0\0\0\1"
_HEAD = struct.Struct("<8sQ")
# Device, inode, size, mtime, ctime, mode, generation last seen, digest.
_RECORD = struct.Struct("<QQQqqII32s")
_KEPT_GENERATIONS = 16
# The kernel stamps with a clock of up to 10 ms; some file systems keep whole (even) seconds.
TICK_NS = 20_000_000
COARSE_TICK_NS = 2_100_000_000

_Key = tuple[int, int]
_Stamp = tuple[int, int, int, int]


class StatIndex:
    """One context's index. Not for use by two threads at once."""

    def __init__(self, path: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Args:
        path: the index file, made when there is something to keep.
        now_ns: the clock that files are stamped with.
        """
        self._path = path
        self._now_ns = now_ns
        self._known: dict[_Key, tuple[_Stamp, int, bytes]] = {}
        self._generation = 0
        self._is_dirty = False
        self._reading_ns = now_ns()
        self._load()

    def begin(self) -> None:
        """Say that a scan begins: what is read from now on was read after this moment."""
        self._reading_ns = self._now_ns()

    def get(self, status: os.stat_result) -> bytes | None:
        key = (status.st_dev, status.st_ino)
        found = self._known.get(key)
        if found is None or found[0] != _stamp(status):
            return None
        if found[1] != self._generation:
            self._known[key] = (found[0], self._generation, found[2])
        return found[2]

    def put(self, status: os.stat_result, body: bytes) -> None:
        """Remember *body*, unless the file is too young for its times to tell it from an edit."""
        key = (status.st_dev, status.st_ino)
        ctime_ns = status.st_ctime_ns
        tick = TICK_NS if ctime_ns % 1_000_000_000 else COARSE_TICK_NS
        if ctime_ns + tick >= self._reading_ns:
            if self._known.pop(key, None) is not None:
                self._is_dirty = True
            return
        self._known[key] = (_stamp(status), self._generation, body)
        self._is_dirty = True

    def save(self) -> None:
        """Write the index if it has changed; the last writer wins. A failure costs only time."""
        if not self._is_dirty:
            return
        generation = self._generation
        parts = [_HEAD.pack(_MAGIC, generation)]
        for (dev, ino), ((size, mtime, ctime, mode), seen, body) in self._known.items():
            if generation - seen <= _KEPT_GENERATIONS:
                parts.append(_RECORD.pack(dev, ino, size, mtime, ctime, mode, seen, body))
        data = b"".join(parts)
        tmp = f"{self._path}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(tmp, "xb") as file:
                file.write(data)
                file.write(hashlib.sha256(data).digest())
            os.replace(tmp, self._path)
        except OSError:
            try:
                os.unlink(tmp)
            except OSError:
                pass
            return
        self._is_dirty = False

    def _load(self) -> None:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except OSError:
            return
        body = memoryview(data)[:-32]
        if len(data) < _HEAD.size + 32 or (len(body) - _HEAD.size) % _RECORD.size:
            return
        magic, generation = _HEAD.unpack_from(body)
        if magic != _MAGIC or hashlib.sha256(body).digest() != data[-32:]:
            return
        for dev, ino, size, mtime, ctime, mode, seen, digest in _RECORD.iter_unpack(
            body[_HEAD.size :]
        ):
            self._known[dev, ino] = ((size, mtime, ctime, mode), seen, digest)
        self._generation = generation + 1


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode
