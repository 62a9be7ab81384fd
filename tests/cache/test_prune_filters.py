"""Filters of du and prune, with sizes and durations [CMD-3, CMD-4]."""

from __future__ import annotations

import pytest

from pybuild.cache.space.filters import parse_filters, shown_id
from pybuild.cache.space.prune import (
    Policy,
    prune,
)
from pybuild.cache.space.usage import UsageRecord
from pybuild.cache.store import Store
from pybuild.model.amounts import parse_duration, parse_size
from pybuild.model.errors import UsageError, UserError
from tests.cache.builders import Builder, ids
from tests.clocks import FakeClock

DAY = 86400.0


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["until=24h"], "old"),
        (["unused-for=1d"], "old"),
        (["until=2023-11-15T00:00:00Z"], "old"),
        (["description=RUN old"], "old"),
        (["description~=^RUN (o|y)"], "both"),
        (["description!=RUN old"], "young"),
        (["shared"], "neither"),
        (["private"], "both"),
        (["inuse"], "neither"),
        (["mutable"], "neither"),
        (["immutable=true"], "both"),
        (["type=regular"], "both"),
        (["type=exec.cachemount"], "neither"),
        (["type=regular,until=24h"], "old"),
        (["type=regular", "description=RUN young"], "young"),
        (["parents=nosuch"], "neither"),
        (["shared!=true"], "both"),
        (["private!=1"], "neither"),
        (["until=2023-11-15T00:00:00"], "old"),
    ],
)
def test_filters(
    store: Store, builder: Builder, clock: FakeClock, filters: list[str], expected: str
) -> None:
    old = builder.layer(name="RUN old")
    clock.advance(2 * DAY)
    young = builder.layer(name="RUN young")
    wanted = {"old": {old}, "young": {young}, "both": {old, young}, "neither": set[str]()}
    assert set(ids(prune(store, Policy(filters=tuple(filters))))) == wanted[expected]


def test_filter_by_id(store: Store, builder: Builder) -> None:
    one, two, three = builder.layer(), builder.layer(), builder.layer()
    assert ids(prune(store, Policy(filters=(f"id={shown_id(three)}",)))) == [three]
    assert ids(prune(store, Policy(filters=(f"id={one}",)))) == [one]
    assert ids(prune(store, Policy(filters=(f"id~=^{two[:8]}",)))) == [two]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch=1", 'unknown filter "nosuch=1"'),
        ("until", 'unknown filter "until"'),
        ("until=soon", 'invalid duration "soon"'),
        ("until=2023-99-99", 'invalid time "2023-99-99"'),
        ("type=regluar", 'unknown record type "regluar"'),
        ("inuse=maybe", 'invalid filter "inuse=maybe": "maybe" is neither true nor false'),
        ("inuse~=x", 'invalid filter "inuse~=x": "x" is neither true nor false'),
        ("id~=(", 'invalid filter "id~=(": missing ), unterminated subpattern at position 0'),
        ("UNTIL=1h", 'invalid filter "UNTIL=1h"'),
    ],
)
def test_wrong_filters_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_filters([text], 0.0)
    assert caught.value.message == message


def test_patterns_of_clients_end_whatever_they_are() -> None:
    pytest.importorskip("re2")
    endless = "description~=^(RUN|RUN )*x$"
    record = UsageRecord(kind="delta", id="d", type="regular", size=1, description="RUN " * 5_000)
    chosen, _ = parse_filters([endless], 0.0, by_others=True)
    assert not chosen(record)
    assert parse_filters(["description~=^RUN"], 0.0, by_others=True)[0](record)
    with pytest.raises(UserError, match=r'filter "id~=\(": invalid regex "\("'):
        parse_filters(["id~=("], 0.0, by_others=True)


def test_sizes_and_durations() -> None:
    sizes = {
        "10": 10,
        "10GB": 10**10,
        "512MiB": 512 << 20,
        "1.5k": 1500,
        "20%": 200,
        "1 tb": 10**12,
    }
    assert {text: parse_size(text, 1000) for text in sizes} == sizes
    durations = {"48h": 172800.0, "1h30m": 5400.0, "90": 90.0, "7d": 7 * DAY, "1.5h": 5400.0}
    assert {text: parse_duration(text) for text in durations} == durations
    for wrong in ("", "x", "10XB", "-1", "101%", "%"):
        with pytest.raises(UsageError, match="invalid size"):
            parse_size(wrong, 1000)
    for wrong in ("", "x", "1y", "-1h", "h"):
        with pytest.raises(UsageError, match="invalid duration"):
            parse_duration(wrong)
