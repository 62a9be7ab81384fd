"""Attestation manifests and package URLs [ATT-4, ATT-5]."""

from __future__ import annotations

import json

import pytest

from pybuild.image.attestation import SPDX, Statement, Subject, put_attestations
from pybuild.image.manifest import Manifest, parse_manifest
from pybuild.image.purl import OCI, package_url
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

HEX = "ab" * 32
ARM = Platform("linux", "arm", "v7")


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("alpine", "pkg:docker/alpine@latest"),
        ("library/alpine:3.15", "pkg:docker/alpine@3.15"),
        (f"docker.io/library/alpine@sha256:{HEX}", f"pkg:docker/alpine?digest=sha256:{HEX}"),
        (f"alpine:3@sha256:{HEX}", f"pkg:docker/alpine@3?digest=sha256:{HEX}"),
        ("user/test:v2", "pkg:docker/user/test@v2"),
        ("localhost:5000/a/b", "pkg:docker/localhost%3A5000/a/b@latest"),
    ],
)
def test_images_have_package_urls(reference: str, url: str) -> None:
    assert package_url(Reference.parse(reference)) == url


def test_a_package_url_names_the_platform_escaped_and_layouts_are_of_another_type() -> None:
    found = package_url(Reference.parse("busybox"), ARM, OCI)
    assert found == "pkg:oci/busybox@latest?platform=linux%2Farm%2Fv7"


def _put(statements: list[Statement], *, as_artifact: bool = True) -> tuple[dict[str, bytes], str]:
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> Digest:
        blobs[Digest.of(data)] = data
        return Digest.of(data)

    image = Descriptor(OCI_MANIFEST, Digest.of(b"image"), 5)
    found = put_attestations(image, statements, put, as_artifact=as_artifact)
    assert found.platform == Platform("unknown", "unknown")
    assert found.annotations == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(image.digest),
    }
    assert len(blobs[found.digest]) == found.size
    return blobs, found.digest


STATEMENT = Statement(SPDX, {"name": "é"}, (Subject("a", {"sha256": HEX}),))


def test_statements_are_layers_of_a_manifest_that_refers_to_the_image() -> None:
    blobs, digest = _put([STATEMENT])
    manifest = parse_manifest(blobs[digest], OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.artifact_type == "application/vnd.docker.attestation.manifest.v1+json"
    assert manifest.subject is not None
    assert manifest.subject.digest == Digest.of(b"image")
    assert blobs[manifest.config.digest] == b"{}"
    assert json.loads(blobs[digest])["config"]["data"] == "e30="  # the whole of it, as OCI has it
    (layer,) = manifest.layers
    assert layer.media_type == "application/vnd.in-toto+json"
    assert layer.annotations == {"in-toto.io/predicate-type": SPDX}
    assert json.loads(blobs[layer.digest]) == {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": SPDX,
        "subject": [{"name": "a", "digest": {"sha256": HEX}}],
        "predicate": {"name": "é"},
    }


def test_registries_that_know_images_alone_get_one_of_an_unknown_platform() -> None:
    blobs, digest = _put([STATEMENT], as_artifact=False)
    manifest = parse_manifest(blobs[digest], OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert (manifest.subject, manifest.artifact_type) == (None, "")
    config = json.loads(blobs[manifest.config.digest])
    assert (config["os"], config["architecture"]) == ("unknown", "unknown")
    assert config["rootfs"]["diff_ids"] == [layer.digest for layer in manifest.layers]


def test_the_same_statements_make_the_same_manifest() -> None:
    assert _put([STATEMENT])[1] == _put([STATEMENT])[1]
