"""The files of one directory as a few strings of bytes, whatever their number.

Most directories of a context are as they were at the last build. What their files came to then is kept by
what stat said of them, so that a walk does nothing for a file but ask stat: a directory's own times do
not tell that one of its files was written to.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import struct
from operator import attrgetter

from pybuild.executor.trees.statindex import SEAL_BYTES, is_old_enough, write_sealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Listed = Sequence[tuple[str, os.stat_result]]

# Type and mode, owner, group, size, device number; a digest follows.
LOOK = struct.Struct("<IIIQQ")
WHAT_BYTES = LOOK.size + 32
_TIME = struct.Struct("<q")
# Whether they are plain, how many, their cost, bytes of names and of looks.
_HEAD = struct.Struct("<?IQQQ")
_MAGIC = b"pbkf\0\0\0\1"
_ENTRY = struct.Struct("<I32s")
# Above that the memory would be missed.
_MOST = 200_000
# Making a file costs about as much as copying so many bytes.
_FILE_BYTES = 64 << 10
_PLAIN = (stat.S_IFREG, stat.S_IFLNK)
_stamps = attrgetter(
    "st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_mode", "st_rdev"
)


def cost_of(size: int) -> int:
    """Return how long a copy of so many bytes takes, in files."""
    return 1 + size // _FILE_BYTES


class DirectoryFiles:
    """The entries of a directory besides directories, in order.

    Attributes:
        names: each one ends with a NUL, as text that need not be valid UTF-8.
        whats: the parts of each that count, `WHAT_BYTES` each.
        times: of modification, eight bytes each.
        looks: for people, each one ends with a NUL.
        cost: the time to copy them, in units of one small file.
        is_plain: they are files and links with no other name.
    """

    __slots__ = ("cost", "is_plain", "looks", "names", "times", "whats")

    def __init__(
        self, names: bytes, whats: bytes, times: bytes, looks: bytes, cost: int, is_plain: bool
    ) -> None:
        self.names = names
        self.whats = whats
        self.times = times
        self.looks = looks
        self.cost = cost
        self.is_plain = is_plain

    def __len__(self) -> int:
        return len(self.times) // _TIME.size

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DirectoryFiles)
            and self.names == other.names
            and self.whats == other.whats
            and self.times == other.times
        )

    __hash__ = None  # type: ignore[assignment]

    def by_name(self) -> dict[str, bytes]:
        """Return of each file what it is, and when it was modified."""
        return {
            name: self.times[at * 8 : at * 8 + 8]
            + self.whats[at * WHAT_BYTES : (at + 1) * WHAT_BYTES]
            for at, name in enumerate(_split(self.names))
        }

    def listed(self, above: str) -> list[tuple[str, str]]:
        """Return path and look of each; *above* is put before the names."""
        looks = _split(self.looks)
        return [(above + name, look) for name, look in zip(_split(self.names), looks, strict=True)]

    def encode(self) -> bytes:
        head = _HEAD.pack(self.is_plain, len(self), self.cost, len(self.names), len(self.looks))
        return b"".join((head, self.names, self.whats, self.times, self.looks))

    @classmethod
    def decode(cls, data: bytes, at: int) -> tuple[DirectoryFiles, int]:
        """Read what `encode` returned; return where it ends, too."""
        is_plain, count, cost, names, looks = _HEAD.unpack_from(data, at)
        parts: list[bytes] = []
        at += _HEAD.size
        for size in (names, count * WHAT_BYTES, count * _TIME.size, looks):
            parts.append(data[at : at + size])
            at += size
        return cls(parts[0], parts[1], parts[2], parts[3], cost, is_plain), at


class FilesMaker:
    """Collects the files of one directory."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._whats: list[bytes] = []
        self._times: list[bytes] = []
        self._looks: list[str] = []
        self._cost = 0
        self._is_plain = True

    def add(self, name: str, what: bytes, look: str, status: os.stat_result) -> None:
        self._names.append(name)
        self._whats.append(what)
        self._looks.append(look)
        self._times.append(_TIME.pack(status.st_mtime_ns))
        self._cost += cost_of(status.st_size)
        # Hard links are about two files, and devices are not for everybody to make.
        self._is_plain &= status.st_nlink == 1 and stat.S_IFMT(status.st_mode) in _PLAIN

    def made(self) -> DirectoryFiles:
        return DirectoryFiles(
            _join(self._names),
            b"".join(self._whats),
            b"".join(self._times),
            _join(self._looks),
            self._cost,
            self._is_plain,
        )


class KnownFiles:
    """The entries of a tree's directories by signature of their stat results, in a file.

    Not for use by two threads at once.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[str, tuple[bytes, DirectoryFiles]] = {}
        self._count = 0
        self._met: set[str] = set()
        self._reading_ns = 0
        self._is_dirty = False
        self._load()

    def begin(self, reading_ns: int) -> None:
        """Say that a scan begins; see `StatIndex.begin`."""
        self._reading_ns = reading_ns

    def find(self, path: str, signature: bytes) -> DirectoryFiles | None:
        """Return the files of the directory *path*, if they are still those of *signature*."""
        self._met.add(path)
        entry = self._known.get(path)
        return entry[1] if entry is not None and entry[0] == signature else None

    def keep(self, path: str, signature: bytes, listed: Listed, files: DirectoryFiles) -> None:
        """Remember *files*, unless one is so young that it may change and look the same."""
        known = self._known.pop(path, None)
        if known is not None:
            self._count -= len(known[1])
            self._is_dirty = True
        if self._count + len(files) <= _MOST and all(
            is_old_enough(status.st_ctime_ns, self._reading_ns) for _, status in listed
        ):
            self._known[path] = signature, files
            self._count += len(files)
            self._is_dirty = True

    def save(self) -> None:
        """Write what was met, if there is something new; a failure costs only time."""
        if not self._is_dirty:
            return
        if write_sealed(self._path, self._parts()):
            self._is_dirty = False

    def _parts(self) -> Iterator[bytes]:
        yield _MAGIC
        for path, (signature, files) in self._known.items():
            if path in self._met:
                name = path.encode("utf-8", "surrogateescape")
                yield _ENTRY.pack(len(name), signature) + name + files.encode()

    def _load(self) -> None:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except OSError:
            return
        end = len(data) - SEAL_BYTES
        if not data.startswith(_MAGIC) or end < len(_MAGIC):
            return
        if hashlib.sha256(memoryview(data)[:end]).digest() != data[end:]:
            return
        at = len(_MAGIC)
        while at < end:
            size, signature = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size
            path = data[at : at + size].decode("utf-8", "surrogateescape")
            files, at = DirectoryFiles.decode(data, at + size)
            self._known[path] = signature, files
            self._count += len(files)


def signature_of(listed: Listed, flags: int) -> bytes:
    """Return a digest over what stat says of files, and *flags*, on which their looks depend."""
    # Version 2 of marshal writes equal values as equal bytes.
    rows = [(name, _stamps(status)) for name, status in listed]
    return hashlib.sha256(marshal.dumps((flags, rows), 2)).digest()


def _join(texts: list[str]) -> bytes:
    return "\0".join([*texts, ""]).encode("utf-8", "surrogateescape")


def _split(joined: bytes) -> list[str]:
    return joined.decode("utf-8", "surrogateescape").split("\0")[:-1]
