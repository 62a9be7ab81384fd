"""A pushed manifest before it is believed: what it is, and whether all that it names is here [end-7]."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from pybuild.model.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.registry.server.pushedmanifest import check_content, children, read
from pybuild.registry.server.refusal import Refusal, RefusalCode

CONFIG = Descriptor(OCI_CONFIG, Digest.of(b"config"), 6)
LAYER = Descriptor(OCI_LAYER_GZIP, Digest.of(b"layer"), 5)
CHILD = Descriptor(OCI_MANIFEST, Digest.of(b"child"), 5)
OTHER = Descriptor("text/plain", Digest.of(b"other"), 5)
FOREIGN = Descriptor(
    "application/vnd.oci.image.layer.nondistributable.v1.tar", Digest.of(b"foreign"), 7
)
SIZES = {one.digest: one.size for one in (CONFIG, LAYER, CHILD, OTHER)}


def manifest(*layers: Descriptor, **more: Any) -> bytes:
    body = {
        "schemaVersion": 2,
        "config": CONFIG.to_json(),
        "layers": [layer.to_json() for layer in layers],
        **more,
    }
    return json.dumps(body).encode()


def index(*entries: Descriptor, **more: Any) -> bytes:
    manifests = [entry.to_json() for entry in entries]
    return json.dumps({"schemaVersion": 2, "manifests": manifests, **more}).encode()


def refused(
    data: bytes, content_type: str = OCI_MANIFEST, expected: Digest | None = None
) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(data, content_type, expected)
    assert caught.value.status == 400
    return caught.value


def test_a_manifest_is_described_as_lists_show_it() -> None:
    data = manifest(LAYER, subject=CHILD.to_json(), annotations={"a": "b"})
    document, entry = read(data, f"{OCI_MANIFEST.upper()} ; charset=utf-8", None)
    assert document.media_type == OCI_MANIFEST
    assert entry.descriptor == Descriptor(OCI_MANIFEST, Digest.of(data), len(data), {"a": "b"})
    assert entry.descriptor.annotations == {"a": "b"}
    assert (entry.artifact_type, entry.subject) == (OCI_CONFIG, CHILD.digest)
    _, plain = read(manifest(LAYER, artifactType="x/y"), OCI_MANIFEST, None)
    assert (plain.artifact_type, plain.subject) == ("x/y", None)


def test_the_kind_of_an_index_is_what_it_states() -> None:
    for stated, kind in (("x/y", "x/y"), (3, ""), (None, "")):
        more = {} if stated is None else {"artifactType": stated}
        assert read(index(CHILD, **more), OCI_INDEX, None)[1].artifact_type == kind


def test_a_manifest_has_the_digest_that_it_is_pushed_by() -> None:
    data = manifest()
    sha512 = Digest(f"sha512:{hashlib.sha512(data).hexdigest()}")
    for expected in (Digest.of(data), sha512):
        assert read(data, OCI_MANIFEST, expected)[1].descriptor.digest == expected
    refusal = refused(data, expected=CHILD.digest)
    assert refusal.code == RefusalCode.DIGEST_INVALID
    assert refusal.message == f"the manifest is {Digest.of(data)}, not {CHILD.digest}"


def test_what_is_no_manifest_is_refused() -> None:
    for data in (b"", b"{}", b"[" * 100_000, manifest(manifests=[])):
        assert refused(data).code == RefusalCode.MANIFEST_INVALID
    refusal = refused(index(CHILD), OCI_MANIFEST)
    assert refusal.code == RefusalCode.MANIFEST_INVALID


def check(data: bytes, kind: str) -> None:
    document, _ = read(data, kind, None)
    blobs = {CONFIG.digest, LAYER.digest, OTHER.digest}
    check_content(
        document,
        lambda digest: SIZES.get(digest) if digest in blobs else None,
        lambda digest: SIZES.get(digest) if digest not in blobs else None,
    )


def test_all_that_is_named_has_to_be_here_but_foreign_layers_and_the_subject() -> None:
    absent = Descriptor(OCI_MANIFEST, Digest.of(b"absent"), 6)
    check(manifest(LAYER, FOREIGN, subject=absent.to_json()), OCI_MANIFEST)
    check(index(CHILD, OTHER), OCI_INDEX)
    gone = Descriptor(OCI_LAYER_GZIP, Digest.of(b"gone"), 4)
    for data, kind, name in (
        (manifest(LAYER, gone), OCI_MANIFEST, f"blob {gone.digest}"),
        (manifest(CHILD), OCI_MANIFEST, f"blob {CHILD.digest}"),
        (index(CHILD, absent), OCI_INDEX, f"manifest {absent.digest}"),
        (manifest(config=gone.to_json()), OCI_MANIFEST, f"config {gone.digest}"),
    ):
        with pytest.raises(Refusal) as caught:
            check(data, kind)
        assert caught.value.code == RefusalCode.MANIFEST_BLOB_UNKNOWN
        assert caught.value.message == f"{name} is not in this repository"


def test_all_that_is_named_has_the_size_that_is_said() -> None:
    for size in (4, 6):
        wrong = Descriptor(OCI_LAYER_GZIP, LAYER.digest, size)
        with pytest.raises(Refusal) as caught:
            check(manifest(wrong), OCI_MANIFEST)
        assert caught.value.code == RefusalCode.MANIFEST_INVALID
        assert caught.value.message == (
            f"blob {LAYER.digest} has 5 bytes, the manifest says {size}"
        )


def test_the_children_of_an_index_are_its_manifests() -> None:
    assert children(read(index(CHILD, OTHER), OCI_INDEX, None)[0]) == [CHILD.digest]
    assert children(read(manifest(LAYER), OCI_MANIFEST, None)[0]) == []
