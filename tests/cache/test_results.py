"""The solver's records: whole and leased, or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.records.results import Results
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, InternalError
from pybuild.model.snapshot import Record, Snapshot
from pybuild.solver.runner import RecordStore
from tests.clocks import FakeClock

KEY = Digest.of(b"key")
OTHER = Digest.of(b"other")


def delta(store: Store, id: str | None = None) -> str:
    return store.deltas.commit(store.deltas.begin(), id)


def test_it_is_the_solvers_record_store(store: Store) -> None:
    offered: RecordStore = Results(store)
    assert offered.load(KEY) is None


def test_record_comes_back_as_it_was(store: Store) -> None:
    results = Results(store)
    record = Record(
        key=KEY,
        snapshot=Snapshot((delta(store), delta(store))),
        seconds=1.25,
        created=17.0,
        name="[2/3] RUN make",
    )
    results.save(record)
    assert results.load(KEY) == record


def test_empty_snapshot_is_a_result_too(store: Store) -> None:
    results = Results(store)
    results.save(Record(key=KEY, snapshot=Snapshot()))
    assert results.load(KEY) == Record(key=KEY, snapshot=Snapshot())


def test_loading_leases_the_deltas(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        id = delta(store)
        Results(store).save(Record(key=KEY, snapshot=Snapshot((id,))))
    with Store.open(root, clock) as store:
        with store.leases.create() as lease:
            assert store.leases.held() == set()
            assert Results(store, lease).load(KEY) is not None
            assert store.leases.held() == {("delta", id)}
        assert store.leases.held() == set()


def test_record_of_a_lost_delta_is_a_miss_and_goes(store: Store) -> None:
    results = Results(store)
    first, second = delta(store), delta(store)
    results.save(Record(key=KEY, snapshot=Snapshot((first, second))))
    store.deltas.take_away(first)
    assert results.load(KEY) is None
    assert store.records.get("result", KEY) is None


def test_saving_a_record_of_an_absent_delta_is_our_bug(store: Store) -> None:
    with pytest.raises(InternalError, match="snapshot nosuch is not in the store"):
        Results(store).save(Record(key=KEY, snapshot=Snapshot(("nosuch",))))
    assert store.records.get("result", KEY) is None


@pytest.mark.parametrize("id", ["sha256-" + "a" * 64, "chain-" + "a" * 64])
def test_layer_that_can_be_pulled_counts_as_present(store: Store, id: str) -> None:
    results = Results(store)
    record = Record(key=KEY, snapshot=Snapshot((id,)))
    with pytest.raises(InternalError):
        results.save(record)
    store.records.put("layer", id, {"digest": OTHER})
    results.save(record)
    assert results.load(KEY) == record
    store.records.delete("layer", id)
    assert results.load(KEY) is None


@pytest.mark.parametrize(
    "change",
    [
        {"deltas": "abc"},
        {"deltas": [1]},
        {"deltas": None},
        {"deltas": ["../../etc"]},
        {"seconds": "x"},
        {"created": None},
    ],
)
def test_record_that_makes_no_sense_is_a_miss(store: Store, change: dict[str, object]) -> None:
    results = Results(store)
    results.save(Record(key=KEY, snapshot=Snapshot((delta(store),))))
    value = store.records.get("result", KEY)
    assert value is not None
    store.records.put("result", KEY, {**value, **change})
    assert results.load(KEY) is None


def test_aliases_and_seconds(store: Store) -> None:
    results = Results(store)
    assert results.alias(KEY) is None
    assert results.seconds(KEY) is None
    results.save_alias(KEY, OTHER)
    results.save_seconds(KEY, 2.5)
    assert results.alias(KEY) == OTHER
    assert results.seconds(KEY) == 2.5
    store.records.put("alias", KEY, {"target": "nonsense"})
    store.records.put("seconds", KEY, {"seconds": "x"})
    assert results.alias(KEY) is None
    assert results.seconds(KEY) is None


def test_the_time_and_the_memory_of_a_run_are_learned_apart(store: Store) -> None:
    results = Results(store)
    assert results.peak(KEY) == 0
    results.save_seconds(KEY, 2.5)
    results.save_peak(KEY, 100)
    assert (results.seconds(KEY), results.peak(KEY)) == (2.5, 100)
    results.save_seconds(KEY, 3.5)
    assert (results.seconds(KEY), results.peak(KEY)) == (3.5, 100)


def test_last_use_is_noted_every_ten_minutes(store: Store, clock: FakeClock) -> None:
    results = Results(store)
    results.save(Record(key=KEY, snapshot=Snapshot((delta(store),))))

    def use() -> dict[str, object] | None:
        results.load(KEY)
        return store.records.get("use", KEY)

    first = clock.time
    assert use() == {"at": first, "count": 1}
    clock.advance(599)
    assert use() == {"at": first, "count": 1}
    clock.advance(2)
    assert use() == {"at": clock.time, "count": 2}
    clock.advance(-86400)  # the clock was set back: today is what counts
    assert use() == {"at": clock.time, "count": 3}


def test_use_that_cannot_be_noted_is_a_warning(root: Path, clock: FakeClock) -> None:
    class Full(Disk):
        full = False

        def gate(self, what: str) -> None:
            if self.full:
                raise OSError(28, "No space left on device")

    warnings: list[str] = []
    disk = Full()
    with Store.open(root, clock, disk=disk, warn=warnings.append) as store:
        results = Results(store)
        results.save(Record(key=KEY, snapshot=Snapshot((delta(store),))))
        disk.full = True
        assert results.load(KEY) is not None
        with pytest.raises(EnvironmentFault):
            results.save(Record(key=OTHER, snapshot=Snapshot()))
        disk.full = False
    assert len(warnings) == 1
    assert "no space left on device" in warnings[0]
