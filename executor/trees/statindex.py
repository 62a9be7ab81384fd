"""Remembers the digests of a directory's files by what stat says of them.

One small file per context. A file's entry counts only while device, inode, size, times and mode
are the same. Its bytes might still change without that: within one tick of the clock that stamps
files. So nothing is remembered that was changed less than a tick before it was read.

An index of a million files is read by every build that has that context, so it is neither parsed nor
held as a million objects: it is columns, sorted by a number made of device and inode, and a file is
looked up in them by bisection.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from array import array
from bisect import bisect_left

from pybuild.cache.disk.plainfile import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MAGIC = b"pbsi\0\0\0\2"
# Magic, generation, number of files; then their numbers, the generations that saw them last, and records.
_HEAD = struct.Struct("<8sIQ")
# Device, inode, size, mtime, ctime, mode; the digest follows.
_STAMP = struct.Struct("<QQQqqI")
_DIGEST_BYTES = 32
SEAL_BYTES = hashlib.sha256().digest_size
_RECORD_BYTES = _STAMP.size + _DIGEST_BYTES
_KEPT_GENERATIONS = 16
# So many new ones are held as objects before they are sorted in.
MOST_NEW = 50_000
# The kernel stamps with a clock of up to 10 ms; some file systems keep whole (even) seconds.
TICK_NS = 20_000_000
COARSE_TICK_NS = 2_100_000_000
# Spreads devices over all numbers: inodes are small, and often the same on several devices.
_SPREAD = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def is_old_enough(ctime_ns: int, reading_ns: int) -> bool:
    """Return whether a later change of a file that was read at that time shows in its times."""
    tick = TICK_NS if ctime_ns % 1_000_000_000 else COARSE_TICK_NS
    return ctime_ns + tick < reading_ns


class StatIndex:
    """One context's index. Not for use by two threads at once.

    Attributes:
        reading_ns: what is read was read after this moment.
    """

    def __init__(self, path: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Args:
        path: the index file, made when there is something to keep.
        now_ns: the clock that files are stamped with.
        """
        self._path = path
        self._now_ns = now_ns
        self._numbers = array("Q")
        self._seen = array("I")
        self._records = bytearray()
        self._new: dict[int, bytes] = {}
        self._generation = 0
        self._is_dirty = False
        self.reading_ns = now_ns()
        self._load()

    def begin(self) -> None:
        """Say that a scan begins: what is read from now on was read after this moment."""
        self.reading_ns = self._now_ns()

    def get(self, status: os.stat_result) -> bytes | None:
        number = (status.st_dev * _SPREAD + status.st_ino) & _MASK
        stamp = _stamp(status)
        if self._new:
            record = self._new.get(number)
            if record is not None:
                return record[_STAMP.size :] if record.startswith(stamp) else None
        at = bisect_left(self._numbers, number)
        start = at * _RECORD_BYTES
        if not self._records.startswith(stamp, start):  # nor is there any behind the last one
            return None
        self._seen[at] = self._generation
        return bytes(self._records[start + _STAMP.size : start + _RECORD_BYTES])

    def put(self, status: os.stat_result, body: bytes) -> None:
        """Remember *body*, unless the file is too young for its times to tell it from an edit."""
        number = (status.st_dev * _SPREAD + status.st_ino) & _MASK
        if not is_old_enough(status.st_ctime_ns, self.reading_ns):
            self._forget(number)
            return
        self._is_dirty = True
        record = _stamp(status) + body
        at = self._find(number)
        if at is None:
            self._new[number] = record
            if len(self._new) > MOST_NEW:
                self._sort_in()
        else:
            self._records[at * _RECORD_BYTES : (at + 1) * _RECORD_BYTES] = record
            self._seen[at] = self._generation

    def _find(self, number: int) -> int | None:
        at = bisect_left(self._numbers, number)
        return at if at < len(self._numbers) and self._numbers[at] == number else None

    def _forget(self, number: int) -> None:
        at = self._find(number)
        if at is not None:
            # Nothing that stat says is all zeros.
            self._records[at * _RECORD_BYTES : (at + 1) * _RECORD_BYTES] = bytes(_RECORD_BYTES)
            self._is_dirty = True
        self._new.pop(number, None)

    def _sort_in(self) -> None:
        """Put the new ones in their places, from the last one on, in the columns as they are.

        A second set of columns beside the first would be most of what an index ever takes.
        """
        numbers, seen = self._numbers, self._seen
        end, free = len(numbers), len(numbers) + len(self._new)
        self._records += bytes(_RECORD_BYTES * len(self._new))
        numbers.extend(self._new)  # overwritten below, as these are
        seen.extend([self._generation] * len(self._new))
        with memoryview(self._records) as records:
            for number in sorted(self._new, reverse=True):
                at = bisect_left(numbers, number, 0, end)
                free -= end - at
                numbers[free : free + end - at] = numbers[at:end]
                seen[free : free + end - at] = seen[at:end]
                _move(records, at, end, free)
                end = at
                free -= 1
                numbers[free] = number
                seen[free] = self._generation
                records[free * _RECORD_BYTES : (free + 1) * _RECORD_BYTES] = self._new[number]
        self._new.clear()

    def _drop_old(self) -> None:
        """Forget the files that nobody has met for long."""
        oldest = self._generation - _KEPT_GENERATIONS
        if not self._seen or min(self._seen) >= oldest:
            return
        kept = [at for at, seen in enumerate(self._seen) if seen >= oldest]
        size = _RECORD_BYTES
        self._records = bytearray().join(self._records[at * size : (at + 1) * size] for at in kept)
        self._numbers = array("Q", (self._numbers[at] for at in kept))
        self._seen = array("I", (self._seen[at] for at in kept))

    def save(self) -> None:
        """Write the index if it has changed; the last writer wins. A failure costs only time."""
        if not self._is_dirty:
            return
        self._sort_in()
        self._drop_old()
        head = _HEAD.pack(_MAGIC, self._generation, len(self._numbers))
        if write_sealed(self._path, (head, self._numbers, self._seen, self._records)):
            self._is_dirty = False

    def _load(self) -> None:
        try:
            with open(self._path, "rb", opener=plain) as file:
                magic, generation, count = _HEAD.unpack(head := file.read(_HEAD.size))
                size = _HEAD.size + count * (8 + 4 + _RECORD_BYTES) + SEAL_BYTES
                if magic != _MAGIC or os.fstat(file.fileno()).st_size != size:
                    return
                numbers, seen = array("Q"), array("I")
                numbers.fromfile(file, count)
                seen.fromfile(file, count)
                records = bytearray(count * _RECORD_BYTES)
                file.readinto(records)
                digest = hashlib.sha256(head)
                for part in (numbers, seen, records):
                    digest.update(part)
                if file.read() != digest.digest():
                    return
        except (OSError, EOFError, struct.error):
            return
        self._numbers, self._seen, self._records = numbers, seen, records
        self._generation = generation + 1


def _move(records: memoryview, start: int, end: int, to: int) -> None:
    size = _RECORD_BYTES
    records[to * size : (to + end - start) * size] = records[start * size : end * size]


def _stamp(status: os.stat_result) -> bytes:
    return _STAMP.pack(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
    )


def write_sealed(path: str, parts: Iterable[bytes | bytearray | array[int]]) -> bool:
    """Write *parts* and the SHA-256 of all of them; the last writer wins.

    For files that a later build may do without.

    Returns:
        Whether that worked; else what was there stays.
    """
    digest = hashlib.sha256()
    tmp = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(tmp, "xb") as file:
            for part in parts:
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
        os.replace(tmp, path)
    except OSError:
        try:
            os.unlink(tmp)
        except OSError:
            pass
        return False
    return True
