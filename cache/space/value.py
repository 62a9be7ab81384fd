"""In which order things go when space is short: the least value for its bytes first [GC-4].

Value is what it takes to have a thing again, in seconds, for each of its bytes and for each second
that nobody has asked for it; what was used often counts for more. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.cache.content.patches import whole_of
from pybuild.cache.space.usage import UsageRecord

# What nobody has timed, such as a pulled layer or a cache mount, is thought of as fetched again.
# Nor is a step worth less than fetching what it made: it may have run for no time, and where all
# values are equal by this rule, the least recently used goes first.
_FETCHED_BYTES_PER_S = 10e6
# What was used a moment ago is not infinitely better than what was used a minute ago.
_YOUNG_S = 60.0
_BLOCK = 4096


def value(record: UsageRecord, now: float) -> float:
    """Return seconds of work for each byte and second of age."""
    size = max(record.size, _BLOCK)
    seconds = max(record.seconds, size / _FETCHED_BYTES_PER_S)
    age = max(now - record.last_used, 0.0) + _YOUNG_S
    return seconds * (1 + record.use_count) / size / age


def by_value(records: Sequence[UsageRecord], now: float) -> list[UsageRecord]:
    """Sort, the least valuable first; nothing before what lies on it.

    A delta is worth at least what the most valuable one on it is: that would be lost with it.
    Among equals the one with fewer records lies higher up, and a patch on what it changes.
    """
    worth = {(r.kind, r.id): value(r, now) if r.records else 0.0 for r in records}
    # A raised value is passed on to what lies below; each round goes down one delta at least.
    # Deltas can lie on each other in turn, in merged trees, and then all of them become equal.
    changed = True
    while changed:
        changed = False
        for record in records:
            for parent in record.parents:
                below = (record.kind, parent)
                if below in worth and worth[below] < worth[record.kind, record.id]:
                    worth[below] = worth[record.kind, record.id]
                    changed = True

    def order(record: UsageRecord) -> tuple[float, int, bool, str, str]:
        is_whole = whole_of(record.id) is None
        return (
            worth[record.kind, record.id],
            len(record.records),
            is_whole,
            record.kind,
            record.id,
        )

    return sorted(records, key=order)
