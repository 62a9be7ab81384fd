"""Attestations beside an image: in-toto statements in a manifest of their own [ATT-4, ATT-5].

The image's manifest does not know of them, so they never change its digest [ATT-7].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from pybuild.image.config import encode
from pybuild.image.manifest import OCI_EMPTY, build_manifest
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.platform import Platform

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
ARTIFACT_TYPE = "application/vnd.docker.attestation.manifest.v1+json"
PREDICATE_TYPE = "in-toto.io/predicate-type"
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
MANIFEST_KIND = "attestation-manifest"
SPDX = "https://spdx.dev/Document"
UNKNOWN = Platform("unknown", "unknown")

Put = Callable[[bytes], Digest]
"""Stores a blob and returns its digest."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The artifact that a statement is about; *digests* by algorithm, in hex."""

    name: str
    digests: Mapping[str, str] = field(hash=False)

    @classmethod
    def of(cls, name: str, digest: Digest) -> Subject:
        return cls(name, {digest.algorithm: digest.hex})

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "digest": dict(sorted(self.digests.items()))}


@dataclass(frozen=True, slots=True)
class Statement:
    """A predicate about subjects; *predicate* is any JSON."""

    predicate_type: str
    predicate: Any = field(hash=False)
    subjects: tuple[Subject, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "_type": STATEMENT_TYPE,
            "predicateType": self.predicate_type,
            "subject": [subject.to_json() for subject in self.subjects],
            "predicate": self.predicate,
        }

    def compact(self) -> bytes:
        """Return the bytes that images hold."""
        return encode(self.to_json())

    def readable(self) -> bytes:
        """Return the bytes that directories and archives hold."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False).encode()


def put_attestations(
    image: Descriptor, statements: Sequence[Statement], put: Put, *, as_artifact: bool = True
) -> Descriptor:
    """Store the statements about *image* and return what its index says of them.

    Args:
        as_artifact: say whose they are in the manifest too; else they look like an image, which is
            what some old registries need.
    """
    layers: list[Descriptor] = []
    for statement in statements:
        data = statement.compact()
        notes = {PREDICATE_TYPE: statement.predicate_type}
        layers.append(Descriptor(PAYLOAD_TYPE, put(data), len(data), notes))
    if as_artifact:
        config, config_type = b"{}", OCI_EMPTY
    else:
        config, config_type = _image_config(layers), OCI_CONFIG
    subject = Descriptor(image.media_type, image.digest, image.size)
    data = build_manifest(
        Descriptor(config_type, put(config), len(config)),
        layers,
        subject=subject if as_artifact else None,
        artifact_type=ARTIFACT_TYPE if as_artifact else "",
    )
    notes = {REFERENCE_DIGEST: str(image.digest), REFERENCE_TYPE: MANIFEST_KIND}
    return Descriptor(OCI_MANIFEST, put(data), len(data), notes, UNKNOWN)


def _image_config(layers: Sequence[Descriptor]) -> bytes:
    return encode(
        {
            "architecture": UNKNOWN.arch,
            "config": {},
            "os": UNKNOWN.os,
            "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]},
        }
    )
