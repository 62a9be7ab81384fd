"""The last builds are remembered, no more than so many, and broken ones are passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.cache.content import buildhistory as module
from pybuild.cache.content.buildhistory import Builds, name_of
from pybuild.cache.store import Store


def put(builds: Builds, id: str, at: float, value: dict[str, float]) -> None:
    builds.write(name_of(at, id), value)
    builds.trim()


def test_the_latest_comes_first(store: Store) -> None:
    kept = Builds(store)
    assert list(kept.latest()) == []
    for at in (5.0, 1e9, 7.25):
        put(kept, kept.new_id(), at, {"at": at})
    assert [value["at"] for value in kept.latest()] == [1e9, 7.25, 5.0]


def test_the_oldest_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUILDS", 3)
    kept = Builds(store)
    for at in range(5):
        put(kept, kept.new_id(), float(at), {"at": at})
    assert [value["at"] for value in kept.latest()] == [4, 3, 2]
    assert len(list((Path(store.root) / "builds").iterdir())) == 3


def test_what_is_no_build_is_passed_over(store: Store) -> None:
    kept = Builds(store)
    put(kept, "0123abcd", 1.0, {"at": 1.0})
    folder = Path(store.root) / "builds"
    (folder / "00000000009-00000000").write_text("{")
    (folder / "00000000008-00000000").write_text("[]")
    (folder / "notes").write_text("{}")
    (folder / "00000000007-00000000").mkdir()
    assert list(kept.latest()) == [{"at": 1.0}]


def test_a_time_that_makes_no_sense_is_still_a_name(store: Store) -> None:
    kept = Builds(store)
    put(kept, "0123abcd", -5.0, {})
    put(kept, "0123abce", 1e30, {})
    assert len(list(kept.latest())) == 2


def test_a_build_takes_what_its_files_take(store: Store) -> None:
    kept = Builds(store)
    put(kept, "0123abcd", 1.0, {"at": 1.0})
    (build,) = kept.all()
    folder = Path(store.root) / "builds"
    record = (folder / build.name).stat().st_blocks * 512
    assert kept.size(build) == record
    (folder / f"{build.name}.log").write_bytes(bytes(100_000))
    assert kept.size(build) >= record + 100_000
    kept.remove(build)
    assert kept.size(build) == 0 and list(kept.all()) == []
