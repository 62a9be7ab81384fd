"""Freeing by value while builds run: as much as is needed, and not in vain again and again."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from pybuild.cache.content.origins import Origin
from pybuild.cache.disk.locks import locked
from pybuild.cache.space.mark import state_of
from pybuild.cache.space.prune import sweep
from pybuild.cache.space.usage import UsageRecord
from pybuild.cache.space.value import by_value
from pybuild.cache.store import Store

# Looking through all records takes long, and so soon after freeing in vain finds the same.
_BARREN_S, _VAIN_S = 0.3, 1.0


class Evictor:
    """Frees for one process, one thread after the other.

    Args:
        last_results: how many bytes the last results of builds may take when all else is gone.

    Attributes:
        last_seen: the records at its last look, for messages.
    """

    def __init__(self, store: Store, last_results: int) -> None:
        self._store = store
        self._last_results = last_results
        self._succeeded: Counter[Origin] = Counter()
        self._mutex = os.path.join(store.root, "locks", "evicting")
        self._turn = threading.Lock()
        self._barren: object = None
        self._vain_at = self._short_at = 0.0
        self.last_seen: list[UsageRecord] = []

    @contextmanager
    def succeeding(self, origin: Origin) -> Generator[None]:
        """Let the last result of *origin* go, too, in the block: there is going to be a newer one."""
        self._succeeded += Counter([origin])
        try:
            yield
        finally:
            self._succeeded -= Counter([origin])

    def insist(self) -> None:
        """Look in earnest the next time, however short ago nothing could be freed."""
        self._barren, self._vain_at, self._short_at = None, 0.0, 0.0

    def is_vain(self) -> bool:
        """Return whether nothing more could be freed, a moment ago."""
        return time.monotonic() - max(self._vain_at, self._short_at) < _VAIN_S

    def free(self, over: Callable[[], int], margin: int) -> bool:
        """Free what is too much, and *margin* bytes more; tell whether anything was.

        Args:
            over: counts how many bytes are too much, now: what belonged to nobody is gone then, and
                somebody else may have freed.

        Raises:
            EnvironmentFault, OSError: the store cannot be read or changed.
        """
        with self._turn:
            self._store.tmp.sweep()
            if over() <= 0:
                return True
            now = time.monotonic()
            if now - self._vain_at < _BARREN_S or self._barren == self._state():
                self._vain_at = max(self._vain_at, now - _BARREN_S)
                return False
            with locked(self._mutex):
                size = over()
                freed = self._evict(size + margin) if size > 0 else 0
                if freed < size:  # all went that could; others may go on making crumbs
                    self._short_at = time.monotonic()
                if size <= 0 or freed:
                    return True
            self._barren, self._vain_at = self._state(), time.monotonic()
            return False

    def _state(self) -> object:
        """Return a value that stays equal as long as there is nothing new to be freed."""
        return threading.get_ident(), state_of(self._store), self._store.leases.held()

    def _evict(self, size: int) -> int:
        chosen: dict[tuple[str, str], int] = {}

        def choose(records: Sequence[UsageRecord]) -> list[UsageRecord]:
            # Called again until it picks nothing. What came meanwhile is not to be made up for.
            self.last_seen = list(records)
            present = {(record.kind, record.id) for record in records}
            left = size - sum(taken for name, taken in chosen.items() if name not in present)
            now: list[UsageRecord] = []
            for record in self._order(records):
                if left <= 0:
                    break
                now.append(record)
                chosen[record.kind, record.id] = record.size
                left -= record.size
            return now

        return sweep(self._store, choose).freed

    def _order(self, records: Sequence[UsageRecord]) -> list[UsageRecord]:
        """Return the records that can go, in order; last results come at the end, and only those that must."""
        now = self._store.clock.now()
        lasts = by_value([record for record in records if record.last_of], now)
        too_much = sum(record.size for record in lasts) - self._last_results
        older: list[UsageRecord] = []
        succeeded: list[UsageRecord] = []
        for record in lasts:
            if not record.in_use and self._succeeded.keys() >= set(record.last_of):
                succeeded.append(record)
            elif too_much > 0:
                too_much -= record.size
                older += [] if record.in_use else [record]
        usable = by_value([record for record in records if _can_go(record)], now)
        return [*usable, *older, *succeeded]


def _can_go(record: UsageRecord) -> bool:
    return record.reclaimable and record.size > 0 and record.kind != "memo"
