"""The jobs of a process that write to its store, and which of them is to end for want of space."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count

from pybuild.cache.space.budget import TooMuch


class Writers:
    """The writers of a store: reservations, entries of ``tmp/``, cache mounts. Safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count()
        self._reserved: dict[int, int] = {}
        self._writing: dict[int, tuple[str, TooMuch]] = {}
        self._mounts: Counter[str] = Counter()
        self._ending: int | None = None

    def __bool__(self) -> bool:
        """Return whether anybody writes, or is going to."""
        return bool(self._writing or self._reserved or self._mounts)

    def reserved_bytes(self) -> int:
        """Return the bytes that are reserved and not known to be written."""
        with self._lock:
            return sum(self._reserved.values())

    def mounts(self) -> list[str]:
        """Return the names of the cache mounts that are written to."""
        with self._lock:
            return list(self._mounts)

    @contextmanager
    def reserving(self, size: int) -> Generator[None]:
        """Count *size* bytes in the block."""
        with self._lock:
            number = next(self._numbers)
            self._reserved[number] = size
        try:
            yield
        finally:
            with self._lock:
                del self._reserved[number]

    @contextmanager
    def writing(self, entry: str, too_much: TooMuch) -> Generator[None]:
        """Count the writer of an entry of ``tmp/`` in the block; *too_much* ends it."""
        with self._lock:
            number = next(self._numbers)
            self._writing[number] = entry, too_much
        try:
            yield
        finally:
            with self._lock:
                del self._writing[number]

    @contextmanager
    def mounting(self, names: Sequence[str]) -> Generator[None]:
        """Count the writer of cache mounts in the block."""
        with self._lock:
            self._mounts.update(names)
        try:
            yield
        finally:
            with self._lock:
                self._mounts -= Counter(names)

    def largest(self, sizes: Mapping[str, int]) -> tuple[bool, TooMuch | None]:
        """Choose who is to end, one at a time.

        Args:
            sizes: of the entries of ``tmp/``, in bytes.

        Returns:
            Whether anybody writes or still ends, and what ends the largest one unless it was told.
        """
        with self._lock:
            if self._ending in self._writing:
                return True, None
            if not self._writing:
                return False, None
            self._ending = max(self._writing, key=lambda n: sizes.get(self._writing[n][0], 0))
            return True, self._writing[self._ending][1]
