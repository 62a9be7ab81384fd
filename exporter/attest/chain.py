"""Attestations of an image, and their signatures, as a client's policy checks them: by digest, from the index on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.buildkit.pb import gateway as pb
from pybuild.image.attestation import (
    MANIFEST_KIND,
    PREDICATE_TYPE,
    REFERENCE_DIGEST,
    REFERENCE_TYPE,
)
from pybuild.image.manifest import Index, Manifest, choose, parse_index, parse_manifest
from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.registry.client.client import Client

_SIGNATURE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MOST_BLOBS = 32


async def attestation_chain(
    client: Client, reference: Reference, platform: Platform, predicates: frozenset[str]
) -> pb.AttestationChain | None:
    """Return the way from the image's index to its attestations; None where it is no index of OCI's.

    Args:
        predicates: the types of those that come along themselves.

    Raises:
        UserError, EnvironmentFault: the registry does not have what the index names.
    """
    root, data = await client.manifest(reference)
    if root.media_type != OCI_INDEX:
        return None
    index = parse_index(data, OCI_INDEX)
    chain = pb.AttestationChain(Root=root.digest)
    _put(chain, root, data)
    image = choose(index, platform)
    if image is None:
        return chain
    chain.ImageManifest = image.digest
    attested = _attestation_of(index, image.digest)
    if attested is None:
        return chain
    chain.AttestationManifest = attested.digest
    documents = await _add_manifest(client, reference, chain, attested)
    for layer in documents[:_MOST_BLOBS]:
        if layer.annotations.get(PREDICATE_TYPE) in predicates:
            _put(chain, layer, await client.blob(reference, layer))
    signatures = await client.referrers(reference, attested.digest)
    for one in signatures:
        if one.artifact_type == _SIGNATURE:
            chain.SignatureManifests.append(one.descriptor.digest)
            for layer in (await _add_manifest(client, reference, chain, one.descriptor))[
                :_MOST_BLOBS
            ]:
                _put(chain, layer, await client.blob(reference, layer))
            break
    return chain


async def _add_manifest(
    client: Client, reference: Reference, chain: pb.AttestationChain, descriptor: Descriptor
) -> tuple[Descriptor, ...]:
    """Put a manifest into the chain; return its layers."""
    _, data = await client.manifest(reference, descriptor)
    _put(chain, descriptor, data)
    document = parse_manifest(data, descriptor.media_type or OCI_MANIFEST)
    return tuple(document.layers) if isinstance(document, Manifest) else ()


def _attestation_of(index: Index, image: Digest) -> Descriptor | None:
    for entry in index.manifests:
        named = entry.annotations
        if named.get(REFERENCE_TYPE) == MANIFEST_KIND and named.get(REFERENCE_DIGEST) == image:
            return entry
    return None


def _put(chain: pb.AttestationChain, descriptor: Descriptor, data: bytes) -> None:
    blob = chain.Blobs[descriptor.digest]
    blob.data = data
    blob.descriptor.media_type = descriptor.media_type
    blob.descriptor.digest = descriptor.digest
    blob.descriptor.size = descriptor.size
    blob.descriptor.annotations.update(descriptor.annotations)
