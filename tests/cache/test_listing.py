"""Repositories' manifests as rows, images to be pruned, and blobs that nothing holds."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.content import flusher
from pybuild.cache.disk.custody import file_system
from pybuild.cache.disk.locks import boot_id
from pybuild.cache.repositories.collect import free_unheld
from pybuild.cache.repositories.listing import manifest_rows
from pybuild.cache.repositories.repositories import ManifestEntry
from pybuild.cache.space.unusedimages import read_image_filters
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from tests.clocks import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Generator[Store]:
    with Store.open(str(tmp_path / "store"), clock) as opened:
        yield opened


def put(store: Store, data: bytes) -> Digest:
    digest = Digest.of(data)
    path = Path(store.scratch("test"))
    path.write_bytes(data)
    store.blobs.adopt(str(path), digest, len(data))
    return digest


def manifest(store: Store, *sizes: int) -> Digest:
    """Put a manifest of a config of 7 bytes, and layers of these sizes."""
    blobs = [{"digest": Digest.of(b"%d" % size), "size": size} for size in (7, *sizes)]
    layer = "application/vnd.oci.image.layer.v1.tar"
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, **blobs[0]},
        "layers": [{"mediaType": layer, **blob} for blob in blobs[1:]],
    }
    return put(store, json.dumps(value).encode())


def test_manifests_are_rows_with_the_sizes_of_all_that_they_name(store: Store) -> None:
    one, other = manifest(store, 100, 20), manifest(store, 100, 3)
    children = [
        {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1} for digest in (one, other, one)
    ]
    gone = {"mediaType": OCI_MANIFEST, "digest": Digest.of(b"gone"), "size": 1}
    value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*children, gone]}
    index = put(store, json.dumps(value).encode())
    repository = store.repositories["a/b"]
    for digest, tags in ((one, ("z", "a")), (index, ("m",)), (other, ())):
        kind = OCI_INDEX if digest == index else OCI_MANIFEST
        descriptor = Descriptor(kind, digest, store.blobs.size(digest))
        repository.put_manifest(ManifestEntry(descriptor=descriptor), tags)
    rows = manifest_rows(store, repository)
    assert [(row["tag"], row["digest"], row["size"]) for row in rows] == [
        ("a", one, 127),
        ("m", index, 130),
        ("z", one, 127),
        ("", other, 110),
    ]
    assert {row["repository"] for row in rows} == {"a/b"}
    assert [row["media_type"] for row in rows] == [
        OCI_MANIFEST,
        OCI_INDEX,
        OCI_MANIFEST,
        OCI_MANIFEST,
    ]
    assert all(isinstance(row["pushed"], int) and row["pushed"] > 0 for row in rows)


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("filters", "all", "expected"),
    [
        ((), False, (False, None)),
        ((), True, (True, None)),
        (("dangling=false",), False, (True, None)),
        (("dangling=FALSE",), False, (True, None)),
        (("dangling=true",), False, (False, None)),
        (("dangling=true",), True, (True, None)),
        (("until=1h",), False, (False, NOW - 3600)),
        (("until=1h", "until=2h"), False, (False, NOW - 7200)),
        (("until=2h", "until=1h"), False, (False, NOW - 7200)),
    ],
)
def test_filters_of_images_to_be_pruned(
    filters: tuple[str, ...], all: bool, expected: tuple[bool, float | None]
) -> None:
    assert read_image_filters(filters, NOW, all) == expected


@pytest.mark.parametrize("text", ["dangling=maybe", "label=a", "dangling"])
def test_a_filter_of_images_that_there_is_not(text: str) -> None:
    with pytest.raises(UsageError, match=f'unknown filter "{text}"') as caught:
        read_image_filters([text], NOW, all=False)
    assert caught.value.hints == ("known: until=24h, dangling=true or false",)


def test_blobs_that_nothing_holds_go_after_their_time(
    tmp_path: Path, store: Store, clock: FakeClock
) -> None:
    young, old, named, linked = (put(store, data) for data in (b"young", b"old" * 5000, b"n", b"l"))
    for digest, age in ((young, 99.0), (old, 100.0), (named, 500.0), (linked, 500.0)):
        made = clock.now() - age
        os.utime(store.blobs.path(digest), (made, made))
    store.images.tag("docker.io/library/a:1", Descriptor(OCI_MANIFEST, named, 1))
    store.repositories["a"].link_blob(linked)
    taken = os.stat(store.blobs.path(old)).st_blocks * 512
    assert free_unheld(store, 100.0).blobs == 0  # who has made them holds them
    store.close()
    with Store.open(str(tmp_path / "store"), clock) as again:
        freed = free_unheld(again, 100.0)
        assert (freed.blobs, freed.size) == (1, taken)
        left = [digest for digest, _ in again.blobs.list()]
        assert sorted(left) == sorted([young, named, linked])
        assert free_unheld(again, 100.0).blobs == 0


def test_the_kind_of_a_file_system_is_read_from_its_mounts() -> None:
    assert file_system("/proc/self") == "proc"
    assert file_system("/absent") == ""


def test_deltas_of_this_boot_are_durable_once_they_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others, and what is no delta, stay as they are."""
    monkeypatch.setattr(os, "nice", abs)  # ours stays as it is
    monkeypatch.chdir(tmp_path)
    boot = boot_id()
    for name, text in {
        "now": json.dumps({"boot": boot}),
        "earlier": json.dumps({"boot": "another"}),
        "damaged": "{",
        "list": "[]",
        "durable": json.dumps({"boot": boot}),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text(text)
    (tmp_path / "durable/durable").write_text("kept")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        flusher.main(fd)
    finally:
        os.close(fd)
    marked = sorted(path.parent.name for path in tmp_path.glob("*/durable"))
    assert marked == ["durable", "now"]
    assert (tmp_path / "durable/durable").read_text() == "kept"
    assert os.getcwd() == "/"


def test_whoever_unmounts_waits_for_those_who_flush(tmp_path: Path) -> None:
    assert flusher.wait_for_others(str(tmp_path), 0.0)
    assert flusher.wait_for_others(str(tmp_path / "absent"), 0.0)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert not flusher.wait_for_others(str(tmp_path), 0.0)
    finally:
        os.close(fd)
    assert flusher.wait_for_others(str(tmp_path), 0.0)
