"""The pure half of collecting a repository: which manifests and blobs must stay."""

from __future__ import annotations

from pybuild.cache.repositories.collect import Content, Keeping, needed, spare_blobs
from pybuild.cache.repositories.repositories import ManifestEntry
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest

INDEX, AMD, ARM, SIGNED, CONFIG, LAYER = (Digest.of(bytes([n])) for n in range(6))
NOW = 10_000.0


def entry(
    digest: Digest, *, subject: Digest | None = None, released: bool = False, changed: float = 0.0
) -> ManifestEntry:
    descriptor = Descriptor(OCI_MANIFEST, digest, 1)
    return ManifestEntry(descriptor=descriptor, subject=subject, released=released, changed=changed)


def test_a_child_that_is_missing_keeps_nothing_from_going() -> None:
    """Nobody can pull it, and it names no blob."""
    content = Content(
        entries={INDEX: entry(INDEX), AMD: entry(AMD)},
        children={INDEX: [("manifests", AMD), ("manifests", ARM)], AMD: [("config", CONFIG)]},
        tagged={INDEX},
        used={CONFIG: 0.0, LAYER: 0.0},
    )
    keep = needed(content, Keeping(), NOW)
    assert keep == {INDEX, AMD}
    assert spare_blobs(content, keep, Keeping(), NOW) == [LAYER]


def test_a_manifest_that_cannot_be_read_keeps_every_blob() -> None:
    content = Content({INDEX: entry(INDEX)}, {}, {INDEX}, {LAYER: 0.0})
    assert spare_blobs(content, {INDEX}, Keeping(), NOW) == []


def test_what_is_said_about_a_manifest_stays_with_it() -> None:
    content = Content(
        {AMD: entry(AMD, released=True), SIGNED: entry(SIGNED, subject=AMD, released=True)},
        {AMD: [], SIGNED: []},
        {AMD},
    )
    assert needed(content, Keeping(), NOW) == {AMD, SIGNED}
    content.tagged.clear()
    assert needed(content, Keeping(), NOW) == set()


def test_untagged_manifests_stay_for_their_time() -> None:
    content = Content(
        {
            AMD: entry(AMD, changed=NOW - 100.0),
            ARM: entry(ARM, changed=NOW - 99.0),
            SIGNED: entry(SIGNED, changed=NOW - 99.0, released=True),
        },
        {AMD: [], ARM: [], SIGNED: []},
        set(),
    )
    assert needed(content, Keeping(), NOW) == {AMD, ARM, SIGNED}
    assert needed(content, Keeping(untagged=100.0), NOW) == {ARM, SIGNED}
    assert needed(content, Keeping(released=99.0), NOW) == {AMD, ARM}


def test_blobs_stay_for_the_time_of_a_push() -> None:
    content = Content({}, {}, set(), {CONFIG: NOW - 3600.0, LAYER: NOW - 3599.0})
    assert spare_blobs(content, set(), Keeping(), NOW) == [CONFIG]
