"""The entries that a copy of a directory's contents is made of, so that two can be compared.

A content digest shows whether anything differs, and leaves times out, which a copy keeps. These
facts show the entries that differ, with times. They are kept beside the delta of the copy.
"""

from __future__ import annotations

import hashlib
import struct

from pybuild.executor.trees.treefiles import WHAT_BYTES, DirectoryFiles, cost_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Self

_MAGIC = b"pbtf\0\0\0\3"
# Magic, number of directories, bytes of their paths.
_HEAD = struct.Struct("<8sQQ")
_TIME = struct.Struct("<q")
_DIRECTORY_BYTES = _TIME.size + WHAT_BYTES
# In what a file is, by `treefiles.LOOK`.
_SIZE = struct.Struct("<Q")
_SIZE_AT = _TIME.size + 12
# Above that many entries the facts of a tree would take more memory than they save time.
_MOST = 300_000


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
        self._count = 0
        self._directories: dict[str, bytes] = {}
        self._files: dict[str, DirectoryFiles] = {}

    def add_directory(
        self, path: str, status: os.stat_result, what: bytes, *, attributes: bool
    ) -> None:
        """Take in a directory; *path* is relative, and empty for the one whose contents it is."""
        if self.plain and not attributes:
            self.cost += 1
            self._directories[path] = _TIME.pack(status.st_mtime_ns) + what
        else:
            self.give_up()

    def add_files(self, path: str, files: DirectoryFiles) -> None:
        """Take in the files of the directory *path*."""
        self._count += len(files)
        if self.plain and files.is_plain and self._count <= _MOST:
            self.cost += files.cost
            self._files[path] = files
        else:
            self.give_up()

    def give_up(self) -> None:
        """Say that there is more to it."""
        self.plain = False
        self._directories.clear()
        self._files.clear()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TreeFacts):
            return NotImplemented
        return (
            self.plain == other.plain
            and self._directories == other._directories
            and self._files == other._files
        )

    __hash__ = None  # type: ignore[assignment]  # filled as it goes

    def changes_since(self, earlier: Self) -> tuple[set[str], int] | None:
        """Return the paths that an earlier copy lacks or has otherwise, and what they cost to copy.

        None where more has to be done than to copy these: something went, or is a directory no more.
        """
        if not (
            earlier._directories.keys() <= self._directories.keys()
            and earlier._files.keys() <= self._files.keys()
        ):
            return None
        changed = {
            path
            for path, fact in self._directories.items()
            if earlier._directories.get(path) != fact
        }
        cost = len(changed)
        for path, files in self._files.items():
            before = earlier._files.get(path)
            if files == before:
                continue
            old, new = before.by_name() if before else {}, files.by_name()
            if not old.keys() <= new.keys():
                return None
            for name in [name for name, fact in new.items() if old.get(name) != fact]:
                changed.add(f"{path}/{name}" if path else name)
                cost += cost_of(_SIZE.unpack_from(new[name], _SIZE_AT)[0])
        return changed, cost

    def differs(self, other: Self, paths: Iterable[str]) -> str | None:
        """Return a path among *paths* that is not the same in both; None if all are."""
        named: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {}
        for path in sorted(paths):
            above, _, name = path.rpartition("/")
            if above not in named:
                named[above] = self._names_in(above), other._names_in(above)
            mine, theirs = named[above]
            now = self._directories.get(path) or mine.get(name)
            if now is None or now != (other._directories.get(path) or theirs.get(name)):
                return path
        return None

    def _names_in(self, path: str) -> dict[str, bytes]:
        files = self._files.get(path)
        return files.by_name() if files else {}

    # --- as a file --------------------------------------------------------------------------------

    def encode(self) -> bytes:
        paths = "\0".join(self._directories).encode("utf-8", "surrogateescape")
        parts = [_HEAD.pack(_MAGIC, len(self._directories), len(paths)), paths]
        parts += self._directories.values()
        for path in self._directories:
            parts.append(self._files.get(path, _NONE).encode())
        body = b"".join(parts)
        return body + hashlib.sha256(body).digest()

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Read what `encode` returned; None if it is not whole."""
        body = memoryview(data)[:-32]
        if len(body) < _HEAD.size or hashlib.sha256(body).digest() != data[-32:]:
            return None
        magic, count, size = _HEAD.unpack_from(body)
        facts = cls()
        if magic != _MAGIC or not count:
            return None
        at = _HEAD.size + size
        paths = data[_HEAD.size : at].decode("utf-8", "surrogateescape").split("\0")
        for path in paths:
            facts._directories[path] = data[at : at + _DIRECTORY_BYTES]
            at += _DIRECTORY_BYTES
        for path in paths:
            files, at = DirectoryFiles.decode(data, at)
            if len(files):
                facts._files[path] = files
        return facts


_NONE = DirectoryFiles(b"", b"", b"", b"", 0, True)
