"""Prune while others use the store: nothing in use goes, and no record dangles [GC-4]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cache.records.results import Results
from pybuild.cache.space.mark import Mark
from pybuild.cache.space.prune import (
    prune,
)
from pybuild.cache.space.usage import UsageRecord, usage
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Record, Snapshot
from tests.cache.builders import Builder, assert_sound, ids
from tests.cache.test_images import image
from tests.clocks import FakeClock


def meanwhile(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Let somebody do *action* once, between the mark and the sweep."""
    waiting = [action]

    def list_and_act(store: Store, marked: Mark | None = None) -> list[UsageRecord]:
        listed = usage(store, marked)
        while waiting:
            waiting.pop()()
        return listed

    monkeypatch.setattr("pybuild.cache.space.prune.usage", list_and_act)


def test_image_tagged_between_mark_and_sweep_is_spared(
    store: Store, root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(root, clock) as maker:
        one = image(maker, "1")
    with Store.open(root, clock) as other:
        meanwhile(monkeypatch, lambda: other.images.tag("late", one))
        assert prune(store).records == []
    assert_sound(store)


def test_record_loaded_between_mark_and_sweep_is_spared(
    store: Store, root: Path, builder: Builder, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, unused = builder.layer(), builder.layer()
    with Store.open(root, clock) as other:
        meanwhile(monkeypatch, lambda: other.lease.add("delta", used))
        assert ids(prune(store)) == [unused]
        assert store.deltas.has(used)


def test_record_saved_between_mark_and_sweep_never_dangles(
    store: Store, root: Path, builder: Builder, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = builder.layer()
    key = Digest.of(b"late")

    def save_and_end() -> None:
        with Store.open(root, clock) as other:
            Results(other).save(Record(key=key, snapshot=Snapshot((base,))))

    meanwhile(monkeypatch, save_and_end)
    assert ids(prune(store)) == [base]
    assert store.records.get("result", key) is None


@pytest.mark.slow
def test_prune_ends_though_others_write_all_the_time(
    store: Store, builder: Builder, root: Path
) -> None:
    layers = [builder.layer() for _ in range(40)]
    with Store.open(root, FakeClock()) as other:

        def busy(record: UsageRecord) -> None:
            other.records.put("k", record.id, {"x": 1})

        pruned = prune(store, progress=busy)
    assert set(ids(pruned)) == set(layers)
    assert_sound(store)
