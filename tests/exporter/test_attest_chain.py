"""The way from an image's index to its attestations, for clients that judge by them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pybuild.exporter.attest.chain import attestation_chain
from pybuild.image.attestation import PREDICATE_TYPE, REFERENCE_DIGEST, REFERENCE_TYPE
from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.registry.client.referrers import Referrer

NAME = Reference.parse("r.example/app:1")
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class Registry:
    """Has blobs and manifests by their digests, and an index by name."""

    def __init__(self) -> None:
        self.data: dict[Digest, bytes] = {}
        self.signatures: list[Referrer] = []
        self.root = self.put(b"{}", OCI_MANIFEST)

    def put(self, data: bytes, kind: str, **annotations: str) -> Descriptor:
        digest = Digest.of(data)
        self.data[digest] = data
        return Descriptor(kind, digest, len(data), annotations=annotations)

    def manifest_of(self, *layers: Descriptor) -> Descriptor:
        config = self.put(b"{}", "application/vnd.oci.image.config.v1+json")
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        return self.put(json.dumps(body).encode(), OCI_MANIFEST)

    async def manifest(
        self, _: Reference, descriptor: Descriptor | None = None
    ) -> tuple[Descriptor, bytes]:
        found = descriptor or self.root
        return found, self.data[found.digest]

    async def blob(self, _: Reference, descriptor: Descriptor) -> bytes:
        return self.data[descriptor.digest]

    async def referrers(self, _reference: Reference, _digest: Digest) -> list[Referrer]:
        return self.signatures


def chain(registry: Registry, *predicates: str) -> Any:
    client: Any = registry
    work = attestation_chain(client, NAME, LINUX_AMD64, frozenset(predicates))
    return asyncio.run(work)


def attested(registry: Registry) -> tuple[Descriptor, Descriptor, Descriptor, Descriptor]:
    """Give *registry* an image with two statements; return image, manifest, and statements."""
    image = registry.manifest_of()
    slsa = registry.put(b"slsa", "application/vnd.in-toto+json", **{PREDICATE_TYPE: "slsa"})
    spdx = registry.put(b"spdx", "application/vnd.in-toto+json", **{PREDICATE_TYPE: "spdx"})
    manifest = registry.manifest_of(slsa, spdx)
    entries = [
        {**image.to_json(), "platform": {"os": "linux", "architecture": "amd64"}},
        {
            **manifest.to_json(),
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: image.digest},
        },
    ]
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    registry.root = registry.put(json.dumps(body).encode(), OCI_INDEX)
    return image, manifest, slsa, spdx


def test_statements_come_along_where_their_kind_is_asked_for() -> None:
    registry = Registry()
    image, manifest, slsa, spdx = attested(registry)
    found = chain(registry, "slsa")
    assert found.Root == registry.root.digest
    assert (found.ImageManifest, found.AttestationManifest) == (image.digest, manifest.digest)
    assert set(found.Blobs) == {registry.root.digest, manifest.digest, slsa.digest}
    assert found.Blobs[slsa.digest].data == b"slsa"
    assert dict(found.Blobs[slsa.digest].descriptor.annotations) == {PREDICATE_TYPE: "slsa"}
    assert spdx.digest not in found.Blobs and not found.SignatureManifests


def test_a_signature_comes_with_its_bundle() -> None:
    registry = Registry()
    attested(registry)
    bundle = registry.put(b"bundle", BUNDLE)
    signed = registry.manifest_of(bundle)
    registry.signatures = [
        Referrer(registry.put(b"?", OCI_MANIFEST), "other"),
        Referrer(signed, BUNDLE),
    ]
    found = chain(registry)
    assert list(found.SignatureManifests) == [signed.digest]
    assert found.Blobs[bundle.digest].data == b"bundle"


def test_an_image_without_an_index_has_no_chain() -> None:
    assert chain(Registry()) is None
