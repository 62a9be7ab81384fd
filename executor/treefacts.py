"""What a copy of a directory's contents is made of, entry by entry, so that two can be compared.

A content digest says whether anything differs, and leaves times out, which a copy keeps. This says
what differs, and has them. It is kept beside the delta that a copy became.
"""

from __future__ import annotations

import hashlib
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Self

_MAGIC = b"pbtf\0\0\0\2"
_HEAD = struct.Struct("<8sQ")
# Whether it is a directory, size, mtime; what it is by its content digest follows.
_FACT = struct.Struct("<?Qq")
_WHAT_BYTES = 60
_FACT_BYTES = _FACT.size + _WHAT_BYTES
# Above that many entries the facts of a tree would take more memory than they save time.
_MOST = 300_000
# Making a file costs about as much as copying so many bytes.
_FILE_BYTES = 64 << 10


class TreeFacts:
    """The entries below one directory.

    Attributes:
        plain: whether the entries are all there is to say: neither hard links, which are about two of
            them, nor attributes of directories, which a copy adds to what is there, nor devices.
        cost: how long copying all takes, in files.
    """

    def __init__(self) -> None:
        self.plain = True
        self.cost = 0
        self._facts: dict[str, bytes] = {}

    def add(
        self, path: str, status: os.stat_result, what: bytes, *, attributes: bool = False
    ) -> None:
        """Take in one entry; *path* is relative, and empty for the directory itself."""
        kind = stat.S_IFMT(status.st_mode)
        is_dir = kind == stat.S_IFDIR
        if not self.plain:
            return
        if is_dir:
            self.plain = not attributes
        else:
            self.plain = status.st_nlink == 1 and kind in (stat.S_IFREG, stat.S_IFLNK)
        size = 0 if is_dir else status.st_size
        self.cost += 1 + size // _FILE_BYTES
        self._facts[path] = _FACT.pack(is_dir, size, status.st_mtime_ns) + what
        if len(self._facts) > _MOST:
            self.plain = False
        if not self.plain:
            self._facts.clear()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TreeFacts):
            return NotImplemented
        return self.plain == other.plain and self._facts == other._facts

    __hash__ = None  # type: ignore[assignment]  # filled as it goes

    def changes_since(self, earlier: Self) -> tuple[set[str], int] | None:
        """Return the paths that an earlier copy lacks or has otherwise, and what they cost to copy.

        None where more has to be done than to copy these: something went, or is a directory no more.
        """
        changed: set[str] = set()
        kept = cost = 0
        for path, fact in self._facts.items():
            was = earlier._facts.get(path)
            if was is not None:
                kept += 1
                if was == fact:
                    continue
                if was[0] != fact[0]:
                    return None
            changed.add(path)
            cost += 1 + _FACT.unpack_from(fact)[1] // _FILE_BYTES
        if kept != len(earlier._facts):
            return None
        return changed, cost

    def differs(self, other: Self, paths: Iterable[str]) -> str | None:
        """Return a path among *paths* that is not the same in both; None if all are."""
        for path in sorted(paths):
            if self._facts.get(path) != other._facts.get(path):
                return path
        return None

    # --- as a file --------------------------------------------------------------------------------

    def encode(self) -> bytes:
        paths = "\0".join(self._facts).encode("utf-8", "surrogateescape")
        body = b"".join((_HEAD.pack(_MAGIC, len(self._facts)), *self._facts.values(), paths))
        return body + hashlib.sha256(body).digest()

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Read what `encode` returned; None if it is not whole."""
        body = memoryview(data)[:-32]
        if len(body) < _HEAD.size or hashlib.sha256(body).digest() != data[-32:]:
            return None
        magic, count = _HEAD.unpack_from(body)
        if magic != _MAGIC:
            return None
        end = _HEAD.size + count * _FACT_BYTES
        paths = bytes(body[end:]).decode("utf-8", "surrogateescape").split("\0")
        facts = [data[at : at + _FACT_BYTES] for at in range(_HEAD.size, end, _FACT_BYTES)]
        found = cls()
        found._facts = dict(zip(paths, facts, strict=True)) if count else {}
        return found
