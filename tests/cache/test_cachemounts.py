"""The directories of cache mounts: found, bounded in size and age, and never taken from a step."""

from __future__ import annotations

import os

import pytest

from pybuild.cache.content import cachemounts
from pybuild.cache.content.cachemounts import ANY, MountLimit
from pybuild.cache.store import Store
from pybuild.model.errors import UserError
from tests.clocks import FakeClock

PIP, GO = "a" * 64, "b" * 64


def made(store: Store, name: str, id: str, size: int = 0) -> None:
    """Make a cache mount of *size* bytes, used now."""
    beginnings = store.scratch("mount")
    cachemounts.begin(store, beginnings, {"id": id, "created": store.clock.now()})
    cachemounts.put(store, beginnings, name)
    with open(os.path.join(store.mounts_dir, name, "fs", "file"), "wb") as file:
        file.write(bytes(size))
    cachemounts.note_use(store, name)


def ids(store: Store) -> list[str]:
    return [mount.id for mount in cachemounts.list_mounts(store)]


@pytest.fixture
def mounts(store: Store) -> Store:
    made(store, PIP, "pip", 100_000)
    made(store, GO, "go", 100_000)
    return store


def test_no_limit_holds_for_what_no_limit_names(mounts: Store, clock: FakeClock) -> None:
    clock.advance(1e8)
    assert cachemounts.limit(mounts, {}) == []
    assert cachemounts.limit(mounts, {"npm": MountLimit(max_bytes=1, max_age_s=1.0)}) == []
    assert cachemounts.limit(mounts, {ANY: MountLimit()}) == []
    assert ids(mounts) == ["go", "pip"]


def test_a_limit_of_one_id_leaves_the_others(mounts: Store) -> None:
    (notice,) = cachemounts.limit(mounts, {"pip": MountLimit(max_bytes=50_000)})
    assert notice.startswith('cache mount "pip" begins anew: it takes ')
    assert notice.endswith(" of 50000 bytes")
    assert ids(mounts) == ["go"]


def test_an_own_limit_goes_before_that_of_all(mounts: Store) -> None:
    limits = {ANY: MountLimit(max_bytes=50_000), "pip": MountLimit(max_bytes=1_000_000)}
    assert len(cachemounts.limit(mounts, limits)) == 1
    assert ids(mounts) == ["pip"]


def test_an_age_counts_from_the_last_use(mounts: Store, clock: FakeClock) -> None:
    limits = {ANY: MountLimit(max_age_s=60.0)}
    clock.advance(40.0)
    cachemounts.note_use(mounts, PIP)
    clock.advance(20.0)
    assert cachemounts.limit(mounts, limits) == []  # just as old as it may be
    clock.advance(1.0)
    assert cachemounts.limit(mounts, limits) == [
        'cache mount "go" begins anew: nobody has used it for longer than its max-age'
    ]
    assert ids(mounts) == ["pip"]


def test_the_size_of_an_unused_mount_is_measured_once(mounts: Store, clock: FakeClock) -> None:
    limits = {"pip": MountLimit(max_bytes=1_000_000)}
    assert cachemounts.limit(mounts, limits) == []
    with open(os.path.join(mounts.mounts_dir, PIP, "fs", "more"), "wb") as file:
        file.write(bytes(2_000_000))
    assert cachemounts.limit(mounts, limits) == []
    clock.advance(1.0)
    cachemounts.note_use(mounts, PIP)
    assert len(cachemounts.limit(mounts, limits)) == 1


def test_what_a_living_process_uses_stays(mounts: Store) -> None:
    mounts.lease.add("mount", PIP)
    assert [mount.in_use for mount in cachemounts.list_mounts(mounts)] == [False, True]
    assert len(cachemounts.limit(mounts, {ANY: MountLimit(max_bytes=1)})) == 1
    assert cachemounts.remove(mounts, [PIP]) == ([], 0)
    assert ids(mounts) == ["pip"]


def test_who_removes_is_told_what_is_gone_and_what_came_free(mounts: Store) -> None:
    gone, freed = cachemounts.remove(mounts, [PIP, "c" * 64])
    assert gone == [PIP]
    assert freed >= 100_000
    assert ids(mounts) == ["go"]


def test_mounts_are_found_by_id_and_by_the_beginning_of_a_name(mounts: Store) -> None:
    assert [mount.name for mount in cachemounts.find(mounts, "go")] == [GO]
    assert [mount.id for mount in cachemounts.find(mounts, "aaaa")] == ["pip"]
    with pytest.raises(UserError, match="no cache mount"):
        cachemounts.find(mounts, "aaa")  # too short for a name
    with pytest.raises(UserError, match=r'no cache mount "pips" \(did you mean pip\?\)'):
        cachemounts.find(mounts, "pips")


def test_an_id_of_several_directories_is_not_one_to_take(mounts: Store) -> None:
    found = cachemounts.find(mounts, "go")
    assert cachemounts.only_one(found, "go") == found[0]
    two = [*found, *cachemounts.find(mounts, "pip")]
    with pytest.raises(UserError) as caught:
        cachemounts.only_one(two, "go")
    names = ", ".join(mount.name[:12] for mount in two)
    assert caught.value.message == f'cache mount "go" has 2 directories: {names}'
