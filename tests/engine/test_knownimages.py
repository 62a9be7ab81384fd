"""Images as checks see them: what the store has, and nothing that is damaged or half there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.content.resolutions import Resolutions
from pybuild.engine.knownimages import KnownImages
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
BASE = Reference.parse("docker.io/library/base:1")


class Stored:
    """A store's files, written by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "memo").mkdir()
        os.chmod(root, 0o700)

    def blob(self, data: bytes, media_type: str) -> Descriptor:
        digest = Digest.of(data)
        self.path(digest).write_bytes(data)
        return Descriptor(media_type, digest, len(data))

    def path(self, digest: Digest) -> Path:
        return self.root / "blobs/sha256" / digest.hex

    def document(self, media_type: str, **fields: Any) -> Descriptor:
        body = {"schemaVersion": 2, "mediaType": media_type, **fields}
        return self.blob(json.dumps(body).encode(), media_type)

    def image(self, arch: str = "amd64", layers: int = 2) -> Descriptor:
        config = {"os": "linux", "architecture": arch, "config": {"User": "me"}}
        stored = self.blob(json.dumps(config).encode(), OCI_CONFIG).to_json()
        layer = Descriptor(OCI_LAYER, Digest.of(b"layer"), 5).to_json()
        return self.document(OCI_MANIFEST, config=stored, layers=[layer] * layers)

    def index(self, **images: Descriptor) -> Descriptor:
        entries = [
            {**image.to_json(), "platform": {"os": "linux", "architecture": arch}}
            for arch, image in images.items()
        ]
        return self.document(OCI_INDEX, manifests=entries)

    def name(self, image: Descriptor, name: str = str(BASE)) -> None:
        other = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"x")), "size": 1}
        named = {**image.to_json(), "annotations": {"io.containerd.image.name": name}}
        (self.root / "index.json").write_text(json.dumps({"manifests": [other, named]}))

    def find(self, platform: Platform = AMD64, layout: str = "") -> Digest | None:
        found = KnownImages(str(self.root)).find(ImageRequest(BASE, platform, layout))
        return None if found is None else found.digest


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path / "store")


def test_an_image_is_known_by_its_name(stored: Stored) -> None:
    manifest = stored.image()
    assert stored.find() is None
    stored.name(manifest)
    found = KnownImages(str(stored.root)).find(ImageRequest(BASE, AMD64))
    assert found is not None
    assert (found.digest, found.layer_count, found.platform) == (manifest.digest, 2, AMD64)
    assert found.config["config"] == {"User": "me"}
    stored.name(manifest, "docker.io/library/other:1")
    assert stored.find() is None


def test_of_an_index_the_platforms_own_is_known(stored: Stored) -> None:
    amd64, arm64 = stored.image("amd64"), stored.image("arm64")
    stored.name(stored.index(amd64=amd64, arm64=arm64))
    assert (stored.find(AMD64), stored.find(ARM64)) == (amd64.digest, arm64.digest)
    stored.name(stored.index(arm64=arm64))
    assert stored.find(AMD64) is None


def test_an_image_that_was_resolved_is_known_after_those_with_the_name(stored: Stored) -> None:
    resolved, named = stored.image(layers=1), stored.image(layers=2)
    Resolutions(str(stored.root)).put(BASE, AMD64, resolved)
    assert stored.find() == resolved.digest
    assert stored.find(ARM64) is None
    stored.name(named)
    assert stored.find() == named.digest
    stored.path(named.digest).unlink()
    assert stored.find() == resolved.digest


def test_what_is_damaged_is_not_known(stored: Stored) -> None:
    manifest = stored.image()
    stored.name(manifest)
    stored.path(manifest.digest).write_bytes(b"{}")
    assert stored.find() is None


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"manifests": 7}', '{"manifests": [7]}', "[" * 100_000]
)
def test_a_broken_index_names_nothing(stored: Stored, text: str) -> None:
    (stored.root / "index.json").write_text(text)
    assert stored.find() is None


def test_an_index_where_a_manifest_belongs_is_not_known(stored: Stored) -> None:
    inner = stored.index(amd64=stored.image())
    stored.name(stored.index(amd64=inner))
    assert stored.find() is None


def test_a_layouts_reference_is_no_name_here(stored: Stored) -> None:
    stored.name(stored.image())
    assert stored.find() is not None
    assert stored.find(layout="/layout") is None


def test_a_store_that_others_may_write_is_not_believed(stored: Stored) -> None:
    stored.name(stored.image())
    os.chmod(stored.root, 0o777)
    assert stored.find() is None


def test_a_store_that_is_not_there_has_no_images(tmp_path: Path) -> None:
    assert KnownImages(str(tmp_path / "none")).find(ImageRequest(BASE, AMD64)) is None
