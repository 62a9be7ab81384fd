"""Sizes that prune and du say are those that the disk says, within 1 % [GC-1, CMD-3, CMD-4]."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.cache.records.results import Results
from pybuild.cache.space.prune import prune
from pybuild.cache.space.usage import overhead, usage
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_LAYER, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Record, Snapshot
from tests.cache.test_images import image
from tests.clocks import FakeClock
from tests.harness import Pybuild
from tests.stress.disks import ext4, used, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]
MB = 1_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with ext4(tmp_path, 200 * MB) as place:
        yield place


def commit(store: Store, *below: str, **files: bytes | Path) -> str:
    """A result with *files*: bytes, or a file to give another name to."""
    active = store.deltas.begin()
    for name, content in files.items():
        if isinstance(content, Path):
            os.link(content, Path(active.fs, name))
        else:
            Path(active.fs, name).write_bytes(content)
    with open(Path(active.fs, "sparse"), "wb") as file:
        file.truncate(500 * MB)
        file.seek(300 * MB)
        file.write(b"x" * 100_000)
    os.makedirs(f"{active.fs}/a/b/c")
    for number in range(200):
        Path(active.fs, "a", str(number)).write_bytes(b"small")
    id = store.deltas.commit(active)
    key = Digest.of(id.encode())
    Results(store).save(Record(key=key, snapshot=Snapshot((*below, id)), seconds=1.0))
    return id


def fill(store: Store) -> None:
    one = commit(store, big=os.urandom(6 * MB))
    first = Path(store.deltas.path(one), "big")
    two = commit(store, one, same=first, again=first, own=os.urandom(3 * MB))
    commit(store, one, two, same=first)
    shared = store.blobs.put(os.urandom(5 * MB))
    store.blobs.put(os.urandom(4 * MB))
    layer = Descriptor(OCI_LAYER, shared, 5 * MB)
    store.images.tag("kept", image(store, "kept", [layer]))
    image(store, "loose", [layer])
    cache = Path(store.mounts_dir, "c" * 40)
    (cache / "fs").mkdir(parents=True)
    (cache / "fs" / "object").write_bytes(os.urandom(2 * MB))


def test_freed_bytes_are_those_of_df(disk: Path) -> None:
    with Store.open(disk / "store", FakeClock()) as store:
        fill(store)
    os.sync()
    with Store.open(disk / "store", FakeClock()) as store:
        before = used(disk)
        pruned = prune(store)
        os.sync()
        freed = before - used(disk)
        assert {record.kind for record in pruned.records} == {"delta", "blob", "mount"}
        assert freed > 15 * MB
        assert abs(pruned.freed - freed) < freed / 100
        assert len(list(store.blobs.list())) == 3


def test_a_file_with_names_in_a_kept_snapshot_gives_nothing_back(disk: Path) -> None:
    with Store.open(disk / "store", FakeClock()) as store:
        one = commit(store, big=os.urandom(20 * MB))
        big = Path(store.deltas.path(one), "big")
    with Store.open(disk / "store", FakeClock()) as store:
        commit(store, own=os.urandom(10 * MB), same=big)
        os.sync()
        before = used(disk)
        pruned = prune(store)  # the first one; the other is leased
        os.sync()
        assert [record.id for record in pruned.records] == [one]
        assert abs(pruned.freed - (before - used(disk))) < MB
        assert pruned.freed < 2 * MB


def test_du_is_what_df_says(disk: Path) -> None:
    empty = used(disk)
    with Store.open(disk / "store", FakeClock()) as store:
        fill(store)
    with Store.open(disk / "store", FakeClock()) as store:
        usage(store)  # leaves its notes
        os.sync()
        said = sum(record.size for record in [*usage(store), overhead(store)])
        assert abs(said - (used(disk) - empty)) < said / 100


def test_the_command_says_it_too(disk: Path) -> None:
    pybuild = Pybuild(disk / "store")
    with Store.open(pybuild.store, FakeClock()) as store:
        fill(store)
    os.sync()
    before = used(disk)
    rows = [json.loads(row) for row in pybuild("du", "--format", "json").out.splitlines()]
    assert abs(sum(row["size"] for row in rows) - before) < before / 50
    out = pybuild("prune", "--force").out
    os.sync()
    total = float(out.splitlines()[-1].removeprefix("Total:\t").removesuffix("MB")) * MB
    assert abs(total - (before - used(disk))) < total / 100
