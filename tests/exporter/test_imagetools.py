"""Images that are somewhere already: joined in an index, copied whole, and looked at [CMD-7, CMD-8]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.cache.store import Store
from pybuild.exporter.annotations import Annotations, attributes_of, from_attributes
from pybuild.exporter.imagetools.copy import copy_image, survey
from pybuild.exporter.imagetools.create import CreatedIndex, make
from pybuild.exporter.imagetools.facts import facts
from pybuild.exporter.imagetools.place import (
    Fetch,
    LayoutPlace,
    Progress,
    RepositoryPlace,
    place_of,
)
from pybuild.image.attestation import PREDICATE_TYPE, REFERENCE_DIGEST, SPDX, UNKNOWN
from pybuild.image.manifest import MAX_DEPTH, build_index, build_manifest
from pybuild.model.descriptor import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.registry.client.referrers import Referrer

ARM64 = Platform.parse("linux/arm64")
ARMV7 = Platform.parse("linux/arm/v7")
NO_STORE = cast(Store, None)


def unseen(name: str, done: int, size: int) -> None:
    pass


class Memory:
    """A place in memory; *kept* has the documents in the order that they came in."""

    def __init__(self, name: str = "memory", repository: str = "") -> None:
        self.name = name
        self.repository = repository
        self.blobs: dict[Digest, bytes] = {}
        self.top: Descriptor | None = None
        self.kept: list[tuple[Digest, bool]] = []
        self.near: list[str] = []
        self.about: dict[Digest, list[Referrer]] = {}
        self.attached: list[Digest] = []

    def put(self, data: bytes, media_type: str, **more: Any) -> Descriptor:
        digest = Digest.of(data)
        self.blobs[digest] = data
        return Descriptor(media_type, digest, len(data), **more)

    async def root(self) -> tuple[Descriptor, bytes]:
        assert self.top is not None
        return self.top, self.blobs[self.top.digest]

    async def document(self, descriptor: Descriptor) -> bytes:
        return self.blobs[descriptor.digest]

    async def bring(self, blob: Descriptor, store: Store, progress: Progress) -> None:
        progress(str(blob.digest), blob.size, blob.size)

    async def take(
        self, blob: Descriptor, store: Store, fetch: Fetch, near: Sequence[str], progress: Progress
    ) -> None:
        await fetch()
        self.near = list(near)
        self.blobs[blob.digest] = b""

    async def keep(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        self.blobs[descriptor.digest] = data
        self.kept.append((descriptor.digest, named))

    async def referrers(self, subject: Digest) -> list[Referrer]:
        return self.about.get(subject, [])

    async def attach(self, referrer: Referrer, data: bytes) -> None:
        self.attached.append(referrer.descriptor.digest)

    # --- making images ------------------------------------------------------------------------

    def image(
        self, platform: Platform, text: str = "", media_type: str = OCI_MANIFEST
    ) -> Descriptor:
        body: dict[str, Any] = {
            "os": platform.os,
            "architecture": platform.arch,
            **({"variant": platform.variant} if platform.variant else {}),
            "author": text,
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        kind = OCI_CONFIG
        if media_type == DOCKER_MANIFEST:
            kind = "application/vnd.docker.container.image.v1+json"
        config = self.put(json.dumps(body).encode(), kind)
        layer = self.put(f"layer {text} {platform}".encode(), OCI_LAYER_GZIP)
        data = build_manifest(config, [layer], media_type)
        self.top = self.put(data, media_type, platform=platform)
        return self.top

    def attestation(self, image: Descriptor, kind: str = SPDX, body: bytes = b"") -> Descriptor:
        config = self.put(b"{}" + image.digest.encode(), OCI_CONFIG)
        layer = self.put(
            body or b'{"predicate": {"n": 1}}',
            "application/vnd.in-toto+json",
            annotations={PREDICATE_TYPE: kind},
        )
        data = build_manifest(config, [layer], OCI_MANIFEST)
        notes = {REFERENCE_DIGEST: str(image.digest)}
        return self.put(data, OCI_MANIFEST, annotations=notes, platform=UNKNOWN)

    def index(self, *entries: Descriptor, media_type: str = OCI_INDEX) -> Descriptor:
        self.top = self.put(build_index(entries, media_type), media_type)
        return self.top


def made(*sources: Memory, notes: Annotations | None = None, **more: Any) -> CreatedIndex:
    return asyncio.run(make(sources, notes or Annotations(), **more))


def entries(result: CreatedIndex) -> list[dict[str, Any]]:
    manifests: list[dict[str, Any]] = json.loads(result.data)["manifests"]
    return manifests


def digests(result: CreatedIndex) -> list[str]:
    return [entry["digest"] for entry in entries(result)]


# --- joining --------------------------------------------------------------------------------------


def test_one_image_gets_an_index_or_is_kept_as_it_is() -> None:
    place = Memory()
    image = place.image(ARMV7)
    joined = made(place)
    assert joined.descriptor.media_type == OCI_INDEX
    assert joined.descriptor.digest == Digest.of(joined.data)
    assert joined.descriptor.size == len(joined.data)
    assert [(e["digest"], e["platform"]) for e in entries(joined)] == [
        (image.digest, ARMV7.to_json())
    ]
    kept = made(place, prefer_index=False)
    assert (kept.descriptor.digest, kept.data) == (image.digest, place.blobs[image.digest])
    assert [part.entry.digest for part in kept.parts] == [image.digest]


def test_an_index_alone_is_kept_as_it_is_unless_something_is_to_be_changed() -> None:
    place = Memory()
    index = place.index(place.image(LINUX_AMD64), place.image(ARM64))
    assert made(place).descriptor.digest == index.digest
    assert made(place, prefer_index=False).descriptor.digest == index.digest
    noted = made(place, notes=from_attributes(attributes_of(["index:a=b"])))
    assert noted.descriptor.digest != index.digest
    assert json.loads(noted.data)["annotations"] == {"a": "b"}


def test_a_later_image_replaces_an_earlier_one_for_its_platform_with_its_attestations() -> None:
    first, second = Memory(), Memory()
    old, arm = first.image(LINUX_AMD64, "old"), first.image(ARM64)
    about_old, about_arm = first.attestation(old), first.attestation(arm)
    first.index(old, arm, about_old, about_arm)
    new = second.image(LINUX_AMD64, "new")
    assert digests(made(first, second)) == [arm.digest, about_arm.digest, new.digest]
    assert digests(made(second, first)) == [e.digest for e in (old, arm, about_old, about_arm)]
    assert digests(made(first, first)) == [e.digest for e in (old, arm, about_old, about_arm)]


def test_only_some_platforms_are_taken_with_their_attestations() -> None:
    place = Memory()
    amd, arm = place.image(LINUX_AMD64), place.image(ARM64)
    about_amd, about_arm = place.attestation(amd), place.attestation(arm)
    place.index(amd, arm, about_amd, about_arm)
    assert digests(made(place, platforms=[ARM64])) == [arm.digest, about_arm.digest]
    both = [LINUX_AMD64, ARM64]
    assert len(digests(made(place, platforms=both))) == 4
    with pytest.raises(UserError, match="^no image for these platforms$"):
        made(place, platforms=[ARMV7])


def test_an_index_of_docker_s_images_is_docker_s_unless_it_has_annotations() -> None:
    first, second, other = Memory(), Memory(), Memory()
    first.image(LINUX_AMD64, media_type=DOCKER_MANIFEST)
    second.image(ARM64, media_type=DOCKER_MANIFEST)
    other.image(ARM64)
    assert made(first, second).descriptor.media_type == DOCKER_INDEX
    assert made(first, other).descriptor.media_type == OCI_INDEX
    notes = from_attributes(attributes_of(["index:a=b"]))
    assert made(first, second, notes=notes).descriptor.media_type == OCI_INDEX


def test_annotations_are_of_the_index_and_of_descriptors_of_images() -> None:
    place = Memory()
    amd, arm = place.image(LINUX_AMD64), place.image(ARM64)
    place.index(amd, arm, place.attestation(amd))
    flags = [
        *("index:i=1", "index-descriptor:d=2"),
        *("manifest-descriptor:all=3", "manifest-descriptor[linux/arm64]:own=4"),
    ]
    result = made(place, notes=from_attributes(attributes_of(flags)))
    assert json.loads(result.data)["annotations"] == {"i": "1"}
    assert result.descriptor.annotations == {"d": "2"}
    assert [entry.get("annotations") for entry in entries(result)] == [
        {"all": "3"},
        {"all": "3", "own": "4"},
        {REFERENCE_DIGEST: str(amd.digest)},
    ]


def test_an_image_that_exists_is_not_annotated() -> None:
    place = Memory()
    place.image(LINUX_AMD64)
    with pytest.raises(UsageError, match="annotation a: an image that exists cannot be") as e:
        made(place, notes=from_attributes(attributes_of(["a=b"])))
    assert e.value.hints == ("annotate the index, or the manifest-descriptor",)


# --- copying --------------------------------------------------------------------------------------


def copied(source: Memory, *targets: Memory, **more: Any) -> Descriptor:
    return asyncio.run(copy_image(source, targets, NO_STORE, unseen, **more))


def test_children_are_kept_before_their_index_and_the_name_comes_last() -> None:
    source, one, two = Memory(repository="r.example/a"), Memory(), Memory()
    amd, arm = source.image(LINUX_AMD64), source.image(ARM64)
    index = source.index(amd, arm)
    assert copied(source, one, two).digest == index.digest
    for target in (one, two):
        assert target.kept == [(amd.digest, False), (arm.digest, False), (index.digest, True)]
        assert target.near == ["r.example/a"]
        assert target.blobs.keys() == source.blobs.keys()
    nowhere, target = Memory(), Memory()
    nowhere.image(LINUX_AMD64)
    copied(nowhere, target)
    assert target.near == []


def test_one_platform_is_copied_without_the_index() -> None:
    source, target = Memory(), Memory()
    arm, armv7 = source.image(ARM64), source.image(ARMV7)
    source.index(armv7, arm)
    assert copied(source, target, platform=ARM64).digest == arm.digest
    assert target.kept == [(arm.digest, True)]
    with pytest.raises(UserError, match="^memory: no match for platform linux/amd64$") as caught:
        copied(source, target, platform=LINUX_AMD64)
    assert caught.value.hints == ("it has linux/arm/v7, linux/arm64",)
    alone = Memory()
    alone.image(ARM64)
    assert copied(alone, target, platform=LINUX_AMD64) == alone.top


def test_referrers_are_copied_each_once_and_after_their_subjects() -> None:
    source, target = Memory(), Memory()
    image = source.image(LINUX_AMD64)
    signature, second = source.attestation(image, "sig"), source.attestation(image, "sig2")
    source.top = image
    source.about = {
        image.digest: [Referrer(signature)],
        signature.digest: [Referrer(second), Referrer(image)],
        second.digest: [Referrer(signature)],
    }
    copied(source, target)
    assert target.attached == []
    copied(source, target, referrers=True)
    assert target.attached == [signature.digest, second.digest]


def test_foreign_layers_are_not_parts_and_indexes_have_a_greatest_depth() -> None:
    place = Memory()
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    config = place.put(b"{}", OCI_CONFIG)
    layers = [place.put(b"near", OCI_LAYER_GZIP), place.put(b"far", foreign)]
    top = place.put(build_manifest(config, layers), OCI_MANIFEST)
    plan = asyncio.run(survey(place, top, place.blobs[top.digest]))
    assert set(plan.blobs) == {config.digest, layers[0].digest}
    for _ in range(MAX_DEPTH - 1):
        top = place.index(top)
    plan = asyncio.run(survey(place, top, place.blobs[top.digest]))
    assert len(plan.documents) == MAX_DEPTH
    assert list(plan.documents)[-1] == top.digest
    top = place.index(top)
    with pytest.raises(EnvironmentFault, match=f"nested more than {MAX_DEPTH} deep"):
        asyncio.run(survey(place, top, place.blobs[top.digest]))


# --- places ---------------------------------------------------------------------------------------


def test_a_name_is_a_repository_s_or_a_layout_s() -> None:
    client = cast(Any, None)
    repository = place_of("r.example/a:1", client)
    assert (repository.name, repository.repository) == ("r.example/a:1", "r.example/a")
    layout = place_of("oci-layout:///x:1", client)
    assert (layout.name, layout.repository) == ("oci-layout:///x:1", "")
    with pytest.raises(UsageError, match="invalid reference format"):
        place_of("A B", client)


class Client:
    def __init__(self) -> None:
        self.pushed: list[object] = []

    async def push_blob(self, *words: object, fetch: object) -> None:
        self.pushed.append(words[3])

    async def push_manifest(self, target: object, media_type: str, data: bytes) -> None:
        self.pushed.append(str(target))


def test_a_repository_takes_blobs_from_its_neighbours_and_names_what_has_a_name() -> None:
    client = Client()
    place = RepositoryPlace(Reference.parse("r.example/a:1"), cast(Any, client))
    blob = Descriptor(OCI_MANIFEST, Digest.of(b""), 0)

    async def fetch() -> None:
        pass

    async def work() -> None:
        near = ["r.example/b", "other.example/c", "r.example.org/d"]
        await place.take(blob, cast(Any, SimpleNamespace(blobs=None)), fetch, near, unseen)
        await place.keep(blob, b"", named=True)
        await place.keep(blob, b"", named=False)
        await place.attach(Referrer(blob), b"")

    asyncio.run(work())
    assert client.pushed == [["b"], "r.example/a:1", "r.example/a", "r.example/a"]


def test_a_layout_keeps_documents_under_names_and_finds_them(tmp_path: Path) -> None:
    source = Memory()
    image = source.image(LINUX_AMD64)
    data = source.blobs[image.digest]
    note = json.dumps(
        {
            **json.loads(data),
            "subject": Descriptor(OCI_MANIFEST, image.digest, image.size).to_json(),
        }
    ).encode()
    referrer = Referrer(Descriptor(OCI_MANIFEST, Digest.of(note), len(note)))

    async def work() -> None:
        place = LayoutPlace(f"{tmp_path}/layout")
        await place.keep(image, data, named=False)
        with pytest.raises(UserError):
            await LayoutPlace(f"{tmp_path}/layout:latest").root()
        await place.keep(image, data, named=True)
        for text in ("", ":latest", f"@{image.digest}"):
            root, known = await LayoutPlace(f"{tmp_path}/layout{text}").root()
            assert (root.digest, known) == (image.digest, data)
        assert await place.referrers(image.digest) == []
        await place.attach(referrer, note)
        found = await place.referrers(image.digest)
        assert [one.descriptor.digest for one in found] == [referrer.descriptor.digest]
        assert await place.referrers(referrer.descriptor.digest) == []
        digest = LayoutPlace(f"{tmp_path}/other@{image.digest}")
        with pytest.raises(UsageError, match="an image cannot be named by a digest$"):
            await digest.keep(image, data, named=True)

    asyncio.run(work())


def test_a_layout_takes_no_blob_that_it_has(tmp_path: Path) -> None:
    blob = Descriptor(OCI_LAYER_GZIP, Digest.of(b"x"), 1)
    place = tmp_path / "blobs" / "sha256" / blob.digest.hex
    place.parent.mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    place.write_bytes(b"x")

    async def fetch() -> None:
        raise AssertionError("it is there")

    asyncio.run(LayoutPlace(str(tmp_path)).take(blob, NO_STORE, fetch, [], unseen))


# --- facts ----------------------------------------------------------------------------------------


def test_the_facts_of_one_image() -> None:
    place = Memory()
    image = place.image(LINUX_AMD64, "me")
    told = asyncio.run(facts(place))
    assert (told["name"], told["provenance"], told["sbom"]) == ("memory", {}, {})
    assert told["image"]["author"] == "me"
    assert told["manifest"]["digest"] == image.digest
    assert told["manifest"]["schemaVersion"] == 2


def test_the_facts_of_an_index_are_by_platform_where_there_are_several() -> None:
    place = Memory()
    amd, arm = place.image(LINUX_AMD64, "a"), place.image(ARM64, "b")
    provenance = place.attestation(amd, "https://slsa.dev/provenance/v1")
    other = place.attestation(arm, "https://e.example/other")
    place.index(amd, provenance)
    told = asyncio.run(facts(place))
    assert (told["image"]["author"], told["sbom"]) == ("a", {})
    assert told["provenance"] == {"SLSA": {"n": 1}}
    place.index(amd, arm, provenance, place.attestation(arm), place.attestation(amd), other)
    told = asyncio.run(facts(place))
    assert {name: image["author"] for name, image in told["image"].items()} == {
        "linux/amd64": "a",
        "linux/arm64": "b",
    }
    assert told["provenance"] == {"SLSA": {"n": 1}}
    assert told["sbom"] == {
        "linux/amd64": {"SPDX": {"n": 1}},
        "linux/arm64": {"SPDX": {"n": 1}},
    }


@pytest.mark.parametrize("body", [b"{", b"{}", b"[]"])
def test_a_broken_attestation_is_named(body: bytes) -> None:
    place = Memory()
    image = place.image(LINUX_AMD64)
    place.index(image, place.attestation(image, SPDX, body))
    with pytest.raises(EnvironmentFault, match="^memory: attestation sha256:.* is broken$"):
        asyncio.run(facts(place))
