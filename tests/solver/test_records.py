"""Rules that the solver has for a record store; the fake and the real one keep the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.cache.records.results import Results
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Snapshot
from pybuild.solver.runner import Record, RecordStore
from tests.clocks import FakeClock
from tests.solver.fakes import MemoryRecords

KEY, OTHER = Digest.of(b"key"), Digest.of(b"other")


@pytest.fixture(params=["fake", "real"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RecordStore]:
    if request.param == "fake":
        yield MemoryRecords()
        return
    store = Store.open(str(tmp_path / "store"), FakeClock())
    try:
        yield Results(store)
    finally:
        store.close()


def test_a_record_is_found_as_it_was_saved(records: RecordStore) -> None:
    record = Record(
        key=KEY,
        snapshot=Snapshot(),
        seconds=1.5,
        created=1_700_000_000.25,
        name="merge",
    )
    records.save(record)
    assert records.load(KEY) == record
    assert records.load(OTHER) is None


def test_a_later_record_of_the_same_key_replaces_it(records: RecordStore) -> None:
    records.save(Record(key=KEY, snapshot=Snapshot(), name="one"))
    records.save(Record(key=KEY, snapshot=Snapshot(), name="two"))
    found = records.load(KEY)
    assert found is not None
    assert found.name == "two"


def test_the_fake_does_not_find_a_record_whose_delta_is_lost() -> None:
    """The real one's way is tested with the cache: it never holds such a record for long."""
    records = MemoryRecords()
    records.save(Record(key=KEY, snapshot=Snapshot(("gone",))))
    records.lost.add("gone")
    assert records.load(KEY) is None


def test_aliases_and_durations(records: RecordStore) -> None:
    assert records.alias(KEY) is None
    assert records.seconds(KEY) is None
    records.save_alias(KEY, OTHER)
    records.save_seconds(KEY, 2.5)
    assert records.alias(KEY) == OTHER
    assert records.seconds(KEY) == 2.5
