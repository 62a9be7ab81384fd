"""Uses and parents of layers that lie on each other, and how much a look at them takes [CMD-3]."""

from __future__ import annotations

import sys
from types import FrameType

from pybuild.cache.records.results import Results
from pybuild.cache.space.usage import usage
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Record, Snapshot
from tests.cache.builders import Builder
from tests.clocks import FakeClock


def test_what_is_made_on_a_layer_is_a_use_of_it(
    store: Store, builder: Builder, clock: FakeClock
) -> None:
    made: dict[str, float] = {}
    layers: list[str] = []
    for below in ((), (0,), (0,), (0, 1)):
        clock.advance(60)
        layers.append(builder.layer(*(layers[number] for number in below)))
        made[layers[-1]] = clock.time
    base, left, right, top = layers
    by_id = {record.id: record for record in usage(store)}
    assert [by_id[id].last_used for id in layers] == [made[top], made[top], made[right], made[top]]
    assert [by_id[id].parents for id in layers] == [(), (base,), (base,), (left,)]


def test_a_look_at_a_tree_of_many_layers_is_no_cube(store: Store) -> None:
    """Each of them has as many results above it; twice the layers are looked at four times as often, not eight."""
    few = _calls(store, 20)
    assert _calls(store, 20) < 3 * few


def _calls(store: Store, more: int) -> int:
    """Stack *more* layers, each with its result; return how many functions a look at all layers calls."""
    stack = tuple(sorted(store.deltas.ids()))
    for _ in range(more):
        stack += (store.deltas.commit(store.deltas.begin()),)
        key = Digest.of(stack[-1].encode())
        Results(store).save(Record(key=key, snapshot=Snapshot(stack), created=1.0))
    usage(store)  # sizes are measured once
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        usage(store)
    finally:
        sys.setprofile(before)
    return calls
