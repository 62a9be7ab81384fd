"""The image that a name has for a platform: found in indexes of indexes, from a registry by hand [IMG-20]."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.registry.client.blobsink import BlobSink
from pybuild.registry.client.client import Client
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.pull import ResolvedManifest, candidates, pull_image, resolve_image
from tests.registry.fakes import DirectoryBlobs

ARM64, ARMV6 = Platform.parse("linux/arm64"), Platform.parse("linux/arm/v6")
ARMV7, UNKNOWN = Platform.parse("linux/arm/v7"), Platform("unknown", "unknown")
REFERENCE = Reference.parse("r.example/a:1")


class Registry:
    """Documents by digest; *top* is what the name stands for."""

    def __init__(self) -> None:
        self.documents: dict[Digest, bytes] = {}
        self.top: Descriptor | None = None
        self.asked: list[Digest] = []
        self.pulled: list[Digest] = []

    def put(self, body: object, media_type: str, platform: Platform | None = None) -> Descriptor:
        data = json.dumps(body).encode()
        digest = Digest.of(data)
        self.documents[digest] = data
        self.top = Descriptor(media_type, digest, len(data), {}, platform)
        return self.top

    def image(
        self, says: Platform | None, is_of: Platform = LINUX_AMD64, text: str = ""
    ) -> Descriptor:
        body = {"os": is_of.os, "architecture": is_of.arch, "author": text}
        config = self.put(body, OCI_CONFIG)
        layer = Descriptor(OCI_LAYER_GZIP, Digest.of(b"layer"), 5).to_json()
        manifest = {"schemaVersion": 2, "config": config.to_json(), "layers": [layer, layer]}
        return self.put(manifest, OCI_MANIFEST, says)

    def index(self, *entries: Descriptor) -> Descriptor:
        return self.put({"manifests": [entry.to_json() for entry in entries]}, OCI_INDEX)

    async def manifest(
        self, reference: Reference, descriptor: Descriptor | None = None
    ) -> tuple[Descriptor, bytes]:
        chosen = descriptor or self.top
        assert chosen is not None
        self.asked.append(chosen.digest)
        return chosen, self.documents[chosen.digest]

    async def blob(self, reference: Reference, descriptor: Descriptor) -> bytes:
        return self.documents[descriptor.digest]

    async def pull_blob(
        self, reference: Reference, blob: Descriptor, blobs: BlobSink, progress: object
    ) -> None:
        self.pulled.append(blob.digest)

    def resolve(self, platform: Platform = LINUX_AMD64) -> ResolvedManifest:
        return asyncio.run(resolve_image(cast(Client, self), REFERENCE, platform))


def test_a_lone_manifest_is_taken_as_it_is() -> None:
    registry = Registry()
    manifest = registry.image(None, ARM64)
    image = registry.resolve()
    assert (image.root, image.manifest, image.indexes) == (manifest, manifest, ())
    assert image.pinned == REFERENCE.with_digest(manifest.digest)
    assert len(image.layers) == 2
    assert json.loads(image.config_bytes)["architecture"] == "arm64"


def test_the_best_entry_of_an_index_is_taken() -> None:
    registry = Registry()
    v6, v7 = registry.image(ARMV6, ARMV6, "6"), registry.image(ARMV7, ARMV7, "7")
    root = registry.index(registry.image(UNKNOWN), v6, v7)
    image = registry.resolve(ARMV7)
    assert (image.manifest, image.root) == (v7, root)
    assert image.indexes == (registry.documents[root.digest],)
    assert registry.resolve(ARMV6).manifest == v6


def test_indexes_in_an_index_are_looked_through_and_others_tried() -> None:
    registry = Registry()
    arm, amd = registry.image(ARM64, ARM64), registry.image(LINUX_AMD64)
    empty, full = registry.index(arm), registry.index(amd)
    root = registry.index(empty, full)
    image = registry.resolve()
    assert image.manifest == amd
    assert image.indexes == tuple(registry.documents[one.digest] for one in (root, full))


def test_what_says_no_platform_is_taken_only_where_its_config_fits() -> None:
    registry = Registry()
    other, fits = registry.image(None, ARM64), registry.image(None, LINUX_AMD64, "fits")
    registry.index(other, fits)
    assert registry.resolve().manifest == fits
    registry.index(other)
    with pytest.raises(UserError, match="no match for platform linux/amd64") as caught:
        registry.resolve()
    assert caught.value.hints == ()


def test_an_image_for_no_such_platform_says_which_it_has() -> None:
    registry = Registry()
    registry.index(registry.image(ARMV7), registry.image(UNKNOWN), registry.image(ARM64))
    with pytest.raises(UserError) as caught:
        registry.resolve()
    assert caught.value.message == (
        "failed to resolve source metadata for r.example/a:1: "
        "no match for platform linux/amd64 in manifest: not found"
    )
    assert caught.value.hints == (
        "the image has linux/arm/v7, linux/arm64: take one with --platform, or another image",
    )


def test_indexes_are_not_nested_without_end() -> None:
    registry = Registry()
    top = registry.image(LINUX_AMD64)
    for _ in range(4):
        top = registry.index(top)
    assert len(registry.resolve().indexes) == 4
    registry.index(top)
    with pytest.raises(ContentFault, match="more than 4 indexes inside each other$"):
        registry.resolve()


def test_few_that_say_nothing_are_tried_and_artifacts_never() -> None:
    registry = Registry()
    silent = [registry.image(None, ARM64, str(number)) for number in range(9)]
    artifact = Descriptor("application/x", Digest.of(b"x"), 1, {}, LINUX_AMD64)
    root = registry.index(artifact, *silent)
    with pytest.raises(UserError, match="no match"):
        registry.resolve()
    assert registry.asked == [root.digest, *(one.digest for one in silent[:8])]


def test_entries_are_ranked_and_those_that_say_nothing_come_last() -> None:
    def entry(platform: Platform | None, text: str) -> Descriptor:
        return Descriptor(OCI_MANIFEST, Digest.of(text.encode()), 1, {}, platform)

    silent, unnamed = entry(None, "silent"), entry(Platform("", ""), "unnamed")
    v6, v7, again = entry(ARMV6, "6"), entry(ARMV7, "7"), entry(ARMV7, "again")
    entries = [silent, v6, v7, entry(UNKNOWN, "about"), again, unnamed, entry(ARM64, "64")]
    assert candidates(entries, ARMV7) == [v7, again, v6, silent, unnamed]
    assert candidates(entries, ARMV6) == [v6, silent, unnamed]


@pytest.mark.parametrize("layers", [True, False])
def test_documents_are_kept_after_the_layers_of_which_each_is_pulled_once(
    tmp_path: Path, layers: bool
) -> None:
    registry = Registry()
    inner = registry.index(registry.image(LINUX_AMD64))
    root = registry.index(inner)
    blobs = DirectoryBlobs(tmp_path)
    work = pull_image(
        cast(Client, registry), cast(Any, blobs), REFERENCE, LINUX_AMD64, layers=layers
    )
    image = asyncio.run(work)
    assert registry.pulled == ([Digest.of(b"layer")] if layers else [])
    for descriptor in (image.config, image.manifest, inner, root):
        assert blobs.read(descriptor.digest) == registry.documents[descriptor.digest]
    assert blobs.leftovers() == []
