"""Patches: deltas that change another one, and hold it [STO-1, GC-4]."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pybuild.cache.content.patches import COPIED, CopyRecord, name_patch, whole_of, with_wholes
from pybuild.cache.records.results import Results
from pybuild.cache.space.mark import mark
from pybuild.cache.space.prune import prune
from pybuild.cache.space.usage import usage
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Record, Snapshot
from tests.clocks import FakeClock

KEY = Digest.of(b"key")


def commit(store: Store, id: str | None = None) -> str:
    return store.deltas.commit(store.deltas.begin(), id)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def pair(root: Path) -> tuple[str, str]:
    """Commit a delta and a patch of it, which a result names, and end."""
    with Store.open(root, FakeClock()) as store:
        whole = commit(store)
        patch = commit(store, name_patch(whole))
        record = Record(key=KEY, snapshot=Snapshot((patch,)), created=0.0, name="it")
        Results(store).save(record)
        return whole, patch


def test_names_say_what_a_patch_changes() -> None:
    patch = name_patch("abc")
    assert whole_of(patch) == "abc"
    assert whole_of("abc") is None
    assert with_wholes(["x", patch]) == ("x", "abc", patch)


def test_patch_is_there_only_with_what_it_changes(root: Path) -> None:
    whole, patch = pair(root)
    with Store.open(root, FakeClock()) as store:
        assert store.deltas.has(patch)
        assert store.deltas.directories(patch) == [
            store.deltas.path(whole),
            store.deltas.path(patch),
        ]
        shutil.rmtree(os.path.dirname(store.deltas.path(whole)))
        assert not store.deltas.has(patch)
        assert Results(store).load(KEY) is None


def test_lease_of_a_patch_keeps_what_it_changes(root: Path) -> None:
    whole, patch = pair(root)
    with Store.open(root, FakeClock()) as store, store.leases.create() as lease:
        lease.add("delta", patch)
        assert {("delta", whole), ("delta", patch)} <= store.leases.held()
        assert store.leases.holders("delta", whole) == (os.getpid(),)
        assert prune(store).records == []
        assert store.deltas.has(patch)


def test_result_on_a_patch_holds_both_and_the_patch_goes_first(root: Path) -> None:
    whole, patch = pair(root)
    with Store.open(root, FakeClock()) as store:
        marked = mark(store)
        assert [holder.name[1] for holder in marked.by_delta[whole]] == [KEY]
        (below,) = [record for record in usage(store, marked) if record.id == patch]
        assert below.parents == (whole,)
        assert [record.id for record in prune(store).records] == [patch, whole]
        assert Results(store).load(KEY) is None


def test_place_of_a_copy_is_forgotten_with_it(root: Path) -> None:
    whole, patch = pair(root)
    with Store.open(root, FakeClock()) as store:
        store.records.put(COPIED, "place", {"delta": whole})
        store.records.put(COPIED, "damaged", {"delta": ["../../x"]})
        assert (COPIED, "damaged") in mark(store).leftover
        assert (COPIED, "place") not in mark(store).leftover
        prune(store)
        assert not store.deltas.has_name(patch)
        assert store.records.get(COPIED, "place") is None


def test_record_of_a_copy_is_read_as_it_is_written_and_as_it_was() -> None:
    kept = CopyRecord("delta", ("a", "b"))
    assert CopyRecord.from_json(kept.to_json()) == kept
    assert CopyRecord.from_json({"delta": "delta"}) == CopyRecord("delta")  # before patches
    assert CopyRecord("delta").to_json() == {"delta": "delta"}
    assert CopyRecord.from_json({"delta": ["../../x"], "met": []}) is None
