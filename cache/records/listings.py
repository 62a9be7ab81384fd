"""The files of contents, by the digest of the content: what a miss is explained with.

A diskcache keeps them: it bounds them, and those that were stored first go first. Nothing depends on
one, so a fault costs explanations and no build, and a database that is damaged is thrown away.
"""

from __future__ import annotations

import os
import threading
import zlib
from contextlib import suppress

from pybuild.cache.disk.atomic import Disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pybuild.cache.disk.atomic import Warn
    from pybuild.cache.disk.scratch import Scratch
    from pybuild.model.named import Listing

    T = TypeVar("T")

MAX_BYTES = 64 << 20
MAX_LISTING_BYTES = 4 << 20
_MAX_INFLATED = 256 << 20
_BUSY_S = 5
# After so many faults a process does without.
_FAULTS = 3


class Listings:
    """The lists of one store. Safe to use from threads and processes at once."""

    def __init__(self, root: str, disk: Disk, tmp: Scratch, warn: Warn) -> None:
        self._folder = os.path.join(root, "listings")
        self._disk = disk
        self._tmp = tmp
        self._warn = warn
        self._lock = threading.Lock()
        self._cache: Any = None
        self._faults = 0

    def get(self, content: str) -> Listing | None:
        """Return the files of a content; None if they are not known."""
        if self._cache is None and not os.path.isdir(self._folder):
            return None
        value = self._do(lambda cache: cache.get(str(content)))
        try:
            return None if value is None else _unpacked(value)
        except ValueError:
            return None

    def add(self, content: str, listing: Listing) -> None:
        """Keep the files of a content, if there is space and they are not known."""

        def add(cache: Any) -> None:
            if str(content) not in cache:
                value = _packed(listing)
                if len(value) <= MAX_LISTING_BYTES:
                    self._disk.gate("sqlite")
                    cache.add(str(content), value)

        self._do(add)

    def close(self) -> None:
        with self._lock:
            cache, self._cache = self._cache, None
            if cache is not None:
                with suppress(
                    Exception
                ):  # closing a damaged database may fail; we are done with it
                    cache.close()

    def _do(self, action: Callable[[Any], T]) -> T | None:
        if self._faults >= _FAULTS:
            return None
        try:
            return action(self._open())
        except Exception as error:  # noqa: BLE001 - diskcache trips over foreign rows in any way
            self._faults += 1
            self._warn(f"lists of files, kept to explain what runs, cannot be used: {error}")
            self.close()
            from pybuild.cache.records.rawdisk import is_damage

            if is_damage(error):
                with suppress(OSError):
                    self._tmp.trash(self._folder)
            return None

    def _open(self) -> Any:
        with self._lock:
            if self._cache is None:
                from pybuild.cache.records.rawdisk import open_cache

                if not os.path.isdir(self._folder):
                    with suppress(FileExistsError):
                        self._disk.mkdir(self._folder)
                self._cache = open_cache(self._folder, _BUSY_S, MAX_BYTES)
            return self._cache


def _packed(listing: Listing) -> bytes:
    """Return all paths, then all looks: neither has a NUL."""
    columns = [path for path, _ in listing] + [look for _, look in listing]
    # Level 1: it is read only when something is explained, and written by each step that runs.
    return zlib.compress("\0".join(columns).encode("utf-8", "surrogateescape"), 1)


def _unpacked(value: object) -> Listing:
    """Read a list.

    Raises:
        ValueError: it is damaged.
    """
    if not isinstance(value, bytes):
        raise ValueError("no list")
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(value, _MAX_INFLATED)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflater.eof:
        raise ValueError("cut short, or too long to be ours")
    columns = text.decode("utf-8", "surrogateescape").split("\0") if text else []
    half = len(columns) // 2
    return tuple(zip(columns[:half], columns[half:], strict=True))
