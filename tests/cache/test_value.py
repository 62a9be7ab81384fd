"""The things worth least for their bytes go first, and none before those that lie on it [GC-4]."""

from __future__ import annotations

from pybuild.cache.space.usage import REGULAR, UsageRecord
from pybuild.cache.space.value import by_value, value

NOW = 1_000_000.0
MB = 1_000_000


def delta(
    id: str,
    *,
    seconds: float = 0.0,
    size: int = MB,
    age: float = 0.0,
    uses: int = 0,
    on: tuple[str, ...] = (),
    records: int = 1,
) -> UsageRecord:
    return UsageRecord(
        kind="delta",
        id=id,
        type=REGULAR,
        size=size,
        last_used=NOW - age,
        use_count=uses,
        parents=on,
        seconds=seconds,
        records=tuple(("result", f"{id}{number}") for number in range(records)),
    )


def order(*records: UsageRecord) -> str:
    return "".join(record.id for record in by_value(records, NOW))


def test_seconds_over_size_over_age() -> None:
    assert order(delta("a", seconds=10), delta("b", seconds=5)) == "ba"
    assert order(delta("a", seconds=10), delta("b", seconds=10, size=2 * MB)) == "ba"
    assert order(delta("a", seconds=10), delta("b", seconds=10, age=60)) == "ba"
    assert order(delta("a", seconds=10, age=3600), delta("b", seconds=1, age=60)) == "ab"


def test_what_was_used_often_stays_longer() -> None:
    assert order(delta("a", seconds=10, uses=3), delta("b", seconds=10)) == "ba"


def test_what_no_record_names_goes_first() -> None:
    assert order(delta("a"), delta("b", seconds=1e9, records=0)) == "ba"


def test_of_quick_steps_the_least_recently_used_goes_first_whatever_their_size() -> None:
    old, young = delta("a", age=86400, size=1), delta("b", age=3600, size=500 * MB)
    assert order(young, old) == "ab"


def test_a_clock_set_back_makes_nothing_dearer_than_the_present() -> None:
    assert value(delta("a", age=-1e6), NOW) == value(delta("b"), NOW)


def test_a_cheap_base_outlives_the_dear_thing_on_it() -> None:
    base = delta("a", seconds=1, age=1e6, records=3)
    middle = delta("b", seconds=2, age=1e5, on=("a",), records=2)
    top = delta("c", seconds=500, on=("b",))
    other = delta("d", seconds=3)
    assert order(base, middle, top, other) == "dcba"


def test_deltas_that_lie_on_each_other_in_turn_are_equal() -> None:
    one, two = delta("a", seconds=1, on=("b",)), delta("b", seconds=9, on=("a",))
    assert order(one, two, delta("c", seconds=5)) == "cab"
