"""Links keep blobs, and let go of them when nothing needs them any more."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.repositories.collect import Keeping, unlink, unlink_at_once
from pybuild.cache.repositories.repositories import ManifestEntry, is_name, is_tag
from pybuild.cache.space.mark import mark
from pybuild.cache.space.prune import Policy, prune
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from tests.clocks import FakeClock

HOUR = 3600.0
RELEASED = Keeping(released=0.0)
ABSENT = Digest("sha256:" + "0" * 64)


@pytest.mark.parametrize("name", ["a", "a/b", "a.b/c__d/e---f", "library/alpine", "a" * 255])
def test_a_name_is_one_of_the_specifications(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", "A", "a_", "_a", "a,b", "a\n", "a" * 256],
)
def test_what_could_lead_elsewhere_is_no_name(store: Store, name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ValueError, match="invalid repository name"):
        store.repositories[name]


@pytest.mark.parametrize(
    ("tag", "valid"), [("v1", True), ("_", True), ("", False), ("..", False), ("a/b", False)]
)
def test_a_tag_is_a_file_name(tag: str, valid: bool) -> None:
    assert is_tag(tag) is valid


def push(store: Store, repository: str, *tags: str, layer: bytes, **more: Any) -> Digest:
    """Push an image of one layer; returns its manifest's digest."""
    with store.view() as view:
        blobs = [view.blobs.put(b"{}"), view.blobs.put(layer)]
        for blob in blobs:
            view.repositories[repository].link_blob(blob)
        config, only = ({"mediaType": "x", "digest": b, "size": store.blobs.size(b)} for b in blobs)
        document = {"schemaVersion": 2, "config": config, "layers": [only], **more}
        return put(view, repository, OCI_MANIFEST, document, tags)


def push_index(store: Store, repository: str, tag: str, *children: Digest) -> Digest:
    manifests = [{"mediaType": OCI_MANIFEST, "digest": c, "size": 1} for c in children]
    with store.view() as view:
        return put(view, repository, OCI_INDEX, {"manifests": manifests}, (tag,))


def put(
    store: Store, repository: str, kind: str, document: dict[str, Any], tags: tuple[str, ...]
) -> Digest:
    data = json.dumps(document).encode()
    digest = store.blobs.put(data)
    subject = document.get("subject")
    entry = ManifestEntry(
        descriptor=Descriptor(kind, digest, len(data)),
        subject=Digest(subject["digest"]) if subject else None,
    )
    store.repositories[repository].put_manifest(entry, tags)
    return digest


def layers(store: Store) -> set[bytes]:
    """The layers that are still in the store, by their bytes."""
    found = {store.blobs.read(digest) for digest, _ in store.blobs.list()}
    return {data for data in found if not data.startswith(b"{")}


@pytest.fixture
def free(store: Store) -> Callable[..., set[bytes]]:
    """Unlinks, by default at once, and prunes; returns the layers that are left."""

    def work(keeping: Keeping | None = None) -> set[bytes]:
        if keeping is None:
            unlink_at_once(store, Keeping())
        else:
            unlink(store, keeping)
        prune(store, Policy(all=True))
        return layers(store)

    return work


def test_a_link_needs_its_blob(store: Store) -> None:
    with pytest.raises(BlobMissing):
        store.repositories["a"].link_blob(ABSENT)
    with pytest.raises(BlobMissing):
        store.repositories["a"].put_manifest(ManifestEntry(descriptor=Descriptor("x", ABSENT, 1)))
    assert store.repositories.linked() == set()


def test_what_is_linked_is_not_pruned(store: Store, free: Callable[..., set[bytes]]) -> None:
    push(store, "a", "v1", layer=b"one")
    push(store, "b/c", layer=b"by digest only")
    assert free() == {b"one", b"by digest only"}
    assert store.repositories.names() == ["a", "b/c"]


def test_deleting_a_tag_lets_prune_free_its_image(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    digest = push(store, "a", "v1", "v2", layer=b"one")
    push(store, "a", "v3", layer=b"other")
    repository = store.repositories["a"]
    clock.advance(1)
    assert repository.untag("v1")
    assert free() == {b"one", b"other"}, "v2 names it still"
    assert repository.untag("v2")
    assert repository.manifest(digest) is not None, "it can be had by its digest for a while"
    assert free(Keeping()) == {b"one", b"other"}
    assert free() == {b"other"}
    assert repository.manifest(digest) is None


def test_a_tag_that_comes_back_holds_again(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    push(store, "a", "v1", layer=b"one")
    store.repositories["a"].untag("v1")
    push(store, "a", "v9", layer=b"one")
    clock.advance(9 * HOUR)
    assert free() == {b"one"}


def test_an_overwritten_image_stays_for_those_who_have_its_digest(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    push(store, "a", "v1", layer=b"old")
    push(store, "a", "v1", layer=b"new")
    clock.advance(9 * HOUR)
    assert free() == {b"old", b"new"}
    assert free(Keeping(untagged=10 * HOUR)) == {b"old", b"new"}
    assert free(Keeping(untagged=8 * HOUR)) == {b"new"}


def test_a_blob_that_waits_for_its_manifest_stays_for_the_time_of_a_push(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    with store.view() as view:
        blob = view.blobs.put(b"pushed")
        store.repositories["a"].link_blob(blob)
    clock.advance(0.9 * HOUR)
    store.repositories["a"].use_blob(blob)  # a client asked, and will not push it again
    clock.advance(0.9 * HOUR)
    assert free(RELEASED) == {b"pushed"}
    clock.advance(0.2 * HOUR)
    assert free(RELEASED) == set()


def test_a_blob_that_a_deleted_image_had_too_stays_for_the_time_of_a_push(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    """The same layer was pushed, or found to be here, for an image whose manifest is to come."""
    repository = store.repositories["a"]
    push(store, "a", "v1", layer=b"shared")
    assert repository.use_blob(Digest.of(b"shared"))
    clock.advance(1)
    repository.untag("v1")
    clock.advance(1)
    assert free(RELEASED) == {b"shared"}
    assert repository.manifests() == []
    with store.repositories.serving():
        assert free() == {b"shared"}, "pruned while somebody may be pushing"
    push(store, "a", "v2", layer=b"shared")
    repository.untag("v2")
    assert free() == set(), "pruned while nobody can"


def test_nobody_is_told_of_a_blob_whose_link_is_being_taken_away(
    tmp_path: Path, clock: FakeClock
) -> None:
    class Asked(Disk):
        """Another client asks for the blob between the look at its link and the link's end."""

        def __init__(self) -> None:
            super().__init__()
            self.told: list[bool] = []
            self.asking: threading.Thread | None = None

        def unlink(self, path: str) -> None:
            if path.startswith(links) and self.asking is None:
                self.asking = threading.Thread(target=self.ask)
                self.asking.start()
                self.asking.join(0.1)
            super().unlink(path)

        def ask(self) -> None:
            self.told.append(store.repositories["a"].use_blob(blob))

    links = str(tmp_path / "registry/repositories/a/blobs")
    disk = Asked()
    with Store.open(tmp_path, clock, disk=disk) as store:
        with store.view() as view:
            blob = view.blobs.put(b"pushed long ago")
            view.repositories["a"].link_blob(blob)
        clock.advance(2 * HOUR)
        assert unlink(store, Keeping()).blobs == 1
        assert disk.asking is not None
        disk.asking.join()
        assert disk.told == [False]


def test_an_image_of_several_platforms_goes_as_one(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    amd, arm = push(store, "a", layer=b"amd"), push(store, "a", "arm", layer=b"arm")
    push_index(store, "a", "v1", amd, arm)
    clock.advance(1)
    assert free() == {b"amd", b"arm"}
    store.repositories["a"].untag("v1")
    clock.advance(1)
    assert free() == {b"arm"}, "that one has a tag of its own"


def test_referrers_live_and_go_with_their_subject(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    image = push(store, "a", "v1", layer=b"image")
    sbom = push(store, "a", layer=b"sbom", subject={"digest": image})
    push(store, "a", layer=b"signature", subject={"digest": sbom})
    clock.advance(1)
    assert free(Keeping(blobs=0, released=0, untagged=0)) == {b"image", b"sbom", b"signature"}
    store.repositories["a"].untag("v1")
    clock.advance(1)
    assert free() == set()
    assert store.repositories["a"].referrers(image) == []


def test_a_mark_made_before_a_link_is_not_believed(store: Store) -> None:
    """The link may be of a blob that the mark calls free."""
    with store.view() as view:
        blob = view.blobs.put(b"x")
        before = mark(store)
        store.repositories["a"].link_blob(blob)
    assert mark(store).state != before.state


def test_a_manifest_that_cannot_be_read_keeps_every_blob(
    store: Store, clock: FakeClock, free: Callable[..., set[bytes]]
) -> None:
    digest = push(store, "a", "v1", layer=b"one")
    store.blobs.delete(digest)
    clock.advance(9 * HOUR)
    assert free() == {b"one"}
