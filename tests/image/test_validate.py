"""The validator finds what is wrong: each lie is told once here [IMG-10, IMG-11, IMG-22]."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.image.config import encode
from pybuild.image.manifest import build_index
from pybuild.image.validate import validate_image
from pybuild.model.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest

from .images import Blobs, assert_valid, make_image

Json = dict[str, Any]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x").write_text("x")
    return tmp_path / "tree"


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
@pytest.mark.parametrize("compression", ["gzip", "uncompressed"])
def test_good_images_pass(blobs: Blobs, tree: Path, media_type: str, compression: str) -> None:
    image = make_image(blobs, [tree, tree], media_type=media_type, compression=compression)
    assert_valid(blobs.open, image)
    assert_valid(blobs.open, blobs.put(OCI_INDEX, build_index([image, image])))


def test_image_without_layers_passes(blobs: Blobs) -> None:
    assert_valid(blobs.open, make_image(blobs, []))


def changed(
    blobs: Blobs, image: Descriptor, on_config: Callable[[Json], object] | None,
    on_manifest: Callable[[Json], object] | None = None,
) -> Descriptor:  # fmt: skip
    manifest = json.loads(Path(blobs.path(image.digest)).read_bytes())
    if on_config is not None:
        config = json.loads(Path(blobs.path(Digest(manifest["config"]["digest"]))).read_bytes())
        on_config(config)
        new = blobs.put(manifest["config"]["mediaType"], encode(config))
        manifest["config"] = new.to_json()
    if on_manifest is not None:
        on_manifest(manifest)
    return blobs.put(image.media_type, encode(manifest))


ON_CONFIG: list[tuple[Callable[[Json], object], str]] = [
    (lambda c: c.pop("os"), "os is missing"),
    (lambda c: c["rootfs"].update(type="x"), "rootfs type 'x', expected 'layers'"),
    (lambda c: c["rootfs"]["diff_ids"].pop(), "1 diff_ids for 2 layers"),
    (lambda c: c["history"][0].update(empty_layer=True), "1 history entries for 2 layers"),
    (lambda c: c["rootfs"]["diff_ids"].reverse(), "the config says"),
    (lambda c: c["rootfs"].update(diff_ids=[7, 8]), "broken diff_ids"),
]


@pytest.mark.parametrize(("change", "message"), ON_CONFIG)
def test_config_that_does_not_fit(
    blobs: Blobs, tree: Path, change: Callable[[Json], object], message: str
) -> None:
    (tree.parent / "two").mkdir()
    image = make_image(blobs, [tree, tree.parent / "two"])
    problems = validate_image(blobs.open, changed(blobs, image, change))
    assert any(message in problem for problem in problems), problems


ON_MANIFEST: list[tuple[Callable[[Json], object], str]] = [
    (lambda m: m["layers"][0].update(size=7), "expected 7"),
    (
        lambda m: m["layers"][0].update(mediaType="application/vnd.oci.image.layer.v1.tar"),
        "gzip data as application/vnd.oci.image.layer.v1.tar",
    ),
    (
        lambda m: m["layers"][0].update(
            mediaType="application/vnd.docker.image.rootfs.diff.tar.gzip"
        ),
        "of another family",
    ),
    (lambda m: m["config"].update(size=1), "not the 1 bytes expected"),
    (lambda m: m["config"].update(digest="sha256:" + "0" * 64), "0: missing"),
    (lambda m: m.update(mediaType="x/y"), "was announced as"),
]


@pytest.mark.parametrize(("change", "message"), ON_MANIFEST)
def test_manifest_that_does_not_fit(
    blobs: Blobs, tree: Path, change: Callable[[Json], object], message: str
) -> None:
    problems = validate_image(blobs.open, changed(blobs, make_image(blobs, [tree]), None, change))
    assert any(message in problem for problem in problems), problems


def test_flipped_bits_are_found(blobs: Blobs, tree: Path) -> None:
    image = make_image(blobs, [tree])
    for path in sorted(blobs.folder.iterdir()):
        good = path.read_bytes()
        path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])
        assert validate_image(blobs.open, image), path
        path.write_bytes(good)
    assert_valid(blobs.open, image)
    with pytest.raises(AssertionError, match="missing"):
        assert_valid(blobs.open, Descriptor(OCI_MANIFEST, Digest.of(b"?"), 1))
