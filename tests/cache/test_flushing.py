"""Flushes of a command that leaves flushing to others: those of blobs that something lasting names."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pybuild.cache.content.storekey import identity, make_key
from pybuild.cache.disk.atomic import Disk
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from tests.clocks import FakeClock


class Watched(Disk):
    """Notes, in order, what is flushed and renamed, by the last part of its path."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.fails = False

    def flush(self, fd: int) -> None:
        if self.fails:
            raise OSError(5, "Input/output error")
        self.done.append("flush " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    def flush_dir(self, path: str) -> None:
        self.done.append("flush " + os.path.basename(path))

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self.done.append("name " + os.path.basename(target))


def written(store: Store) -> list[Digest]:
    """Write blobs in each of the three ways."""
    path = store.scratch("layer")
    Path(path).write_bytes(b"layer")
    adopted = Digest("sha256:" + hashlib.sha256(b"layer").hexdigest())
    store.blobs.adopt(path, adopted, 5)
    with store.blobs.writer() as writer:
        writer.write(b"pulled")
        pulled, _ = writer.commit()
    return sorted([store.blobs.put(b"config"), adopted, pulled])


def test_blobs_are_flushed_before_an_image_is_named(root: Path, clock: FakeClock) -> None:
    disk = Watched()
    with Store.open(root, clock, disk=disk) as store:
        store.flush_after_us(lambda folder: None)
        disk.done.clear()
        blobs = written(store)
        assert [what for what in disk.done if what.startswith("flush")] == []
        disk.done.clear()
        manifest = blobs[0]
        store.images.tag("localhost/x:1", Descriptor(OCI_MANIFEST, manifest, 6))
        flushed = [f"flush {digest.hex}" for digest in blobs]
        assert disk.done[:4] == [*flushed, "flush sha256"]
        assert "name index.json" in disk.done[4:]
        disk.done.clear()
        store.images.tag("localhost/y:1", Descriptor(OCI_MANIFEST, manifest, 6))
        assert not {*flushed} & {*disk.done}, "once is enough"


def test_what_another_process_did_not_flush_is_flushed_before_an_image_of_it_is_named(
    root: Path, clock: FakeClock
) -> None:
    """It may have been killed, or be going on; who has the blobs does not write them again."""
    with Store.open(root, clock) as gone:
        gone.flush_after_us(lambda folder: None)
        config, layer, _ = written(gone)
        parts = [gone.blobs.put(b"config"), config, layer]
        manifest = json.dumps(
            {
                "config": {"digest": parts[0]},
                "layers": [{"digest": part} for part in [*parts[1:], Digest.of(b"elsewhere")]],
            }
        ).encode()
        inner = gone.blobs.put(manifest)
        top = json.dumps({"manifests": [{"digest": inner}]}).encode()
        index = gone.blobs.put(top)
        disk = Watched()
        with Store.open(root, clock, disk=disk) as store:
            assert store.blobs.put(top) == index
            assert f"flush {index.hex}" not in disk.done
            store.images.tag("localhost/x:1", Descriptor(OCI_INDEX, index, len(top)))
            flushed = {f"flush {digest.hex}" for digest in [*parts, inner, index]}
            assert flushed <= {*disk.done[: disk.done.index("name index.json")]}
            disk.done.clear()
            store.images.tag("localhost/y:1", Descriptor(OCI_INDEX, index, len(top)))
            assert not flushed & {*disk.done}, "once is enough"


def test_what_another_process_did_not_flush_is_flushed_before_a_repository_links_it(
    root: Path, clock: FakeClock
) -> None:
    with Store.open(root, clock) as gone:
        gone.flush_after_us(lambda folder: None)
        digest = gone.blobs.put(b"x")
        disk = Watched()
        with Store.open(root, clock, disk=disk) as store:
            store.repositories["x"].link_blob(digest)
        assert f"flush {digest.hex}" in disk.done


def test_an_image_is_not_named_if_it_cannot_be_flushed(root: Path, clock: FakeClock) -> None:
    disk = Watched()
    with Store.open(root, clock, disk=disk) as store:
        store.flush_after_us(lambda folder: None)
        digest = written(store)[0]
        disk.fails = True
        with pytest.raises(EnvironmentFault, match="cannot flush what an image"):
            store.images.tag("localhost/x:1", Descriptor(OCI_MANIFEST, digest, 6))
        assert store.images.list() == []
        disk.fails = False
        store.images.tag("localhost/x:1", Descriptor(OCI_MANIFEST, digest, 6))
        assert f"flush {digest.hex}" in disk.done


def test_a_blob_is_flushed_before_a_server_on_the_store_links_it(
    root: Path, clock: FakeClock
) -> None:
    disk = Watched()
    with Store.open(root, clock, disk=disk) as store:
        store.flush_after_us(lambda folder: None)
        key = make_key(str(root), disk, store.tmp)
        digest = written(store)[0]
        disk.done.clear()
        assert store.blobs.proof(identity(key), "x", digest)
        assert f"flush {digest.hex}" in disk.done


def test_closing_has_blobs_flushed_too(root: Path, clock: FakeClock) -> None:
    handed: list[str] = []
    with Store.open(root, clock) as store:
        store.flush_after_us(handed.append)
        store.blobs.put(b"x")
    assert handed == [str(root / "snapshots")]


def test_without_a_word_each_blob_is_flushed_before_its_name(root: Path, clock: FakeClock) -> None:
    disk = Watched()
    with Store.open(root, clock, disk=disk) as store:
        disk.done.clear()
        digest = store.blobs.put(b"x")
        assert [disk.done[0].split()[0], *disk.done[1:]] == [
            "flush",
            f"name {digest.hex}",
            "flush sha256",
        ]


@pytest.mark.parametrize("after_us", [False, True])
def test_closing_the_records_waits_for_the_disk_unless_the_process_ends(
    root: Path, clock: FakeClock, after_us: bool
) -> None:
    with Store.open(root, clock) as store:
        if after_us:
            store.flush_after_us(lambda folder: None)
        store.records.put("kind", "key", {"a": 1})
    # Whoever closes the last connection moves the log into the database, and flushes both.
    assert (root / "records/records.db-wal").exists() == after_us
    with Store.open(root, clock) as again:
        assert again.records.get("kind", "key") == {"a": 1}
