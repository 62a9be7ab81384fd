"""Manifests that refer to a manifest: signatures, bills of materials, attestations [end-12a].

Registries that know the question answer it. For others, clients keep the answer themselves: in an
index under a tag that is made of the digest.

Source: OCI distribution-spec, "Listing Referrers" and "Pushing Manifests with Subject".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import OCI_INDEX, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import printable
from pybuild.registry.client import manifests
from pybuild.registry.client.challenge import pull_scope
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.listing import next_page
from pybuild.registry.client.transport import Request, Transport

_MOST_PAGES = 1000
_TAG_ALGORITHM, _TAG_HEX = 32, 64


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to another one, with the kind of artifact that it states."""

    descriptor: Descriptor
    artifact_type: str = ""

    @classmethod
    def from_json(cls, value: object) -> Referrer:
        """Read an entry of a list of referrers.

        Raises:
            ValueError: it is no descriptor.
        """
        descriptor = Descriptor.from_json(value)
        kind = cast("dict[str, object]", value).get("artifactType")
        return cls(descriptor, kind if isinstance(kind, str) else "")

    def to_json(self) -> dict[str, Any]:
        """Return the object with OCI's field order."""
        body = self.descriptor.to_json()
        if not self.artifact_type:
            return body
        first = {key: body.pop(key) for key in ("mediaType", "digest", "size")}
        return {**first, "artifactType": self.artifact_type, **body}


def tag_of(digest: Digest) -> str:
    """The tag that lists the referrers of *digest* where the registry does not."""
    return f"{digest.algorithm[:_TAG_ALGORITHM]}-{digest.hex[:_TAG_HEX]}"


async def listed(
    transport: Transport, endpoint: Endpoint, reference: Reference, digest: Digest
) -> list[Referrer] | None:
    """Return the referrers of *digest* in the registry's own list; None: it keeps no such lists.

    Raises:
        HttpFault: it fails or refuses.
    """
    request = Request(
        endpoint=endpoint,
        method="GET",
        repository=reference.path,
        action=f"list referrers of {reference.repository}@{digest}",
        scopes=pull_scope(reference.path),
        path=f"/{reference.path}/referrers/{digest}",
        headers={"Accept": OCI_INDEX},
    )
    entries: list[Referrer] = []
    seen: set[str] = set()
    for page in range(_MOST_PAGES):
        response, data = await transport.fetch(request, manifests.LIMIT_BYTES)
        # Registries from before this endpoint know no such path, or have a web page there.
        if response.status == 404 and not page:
            return None
        if response.status != 200:
            raise transport.refusal(request, response)
        if response.media_type != OCI_INDEX:
            return None
        entries += read_list(request.action, data)
        following = next_page(response)
        if not following or following in seen:
            break
        seen.add(following)
        request = replace(request, path="", url=following)
    return entries


def read_list(name: str, data: bytes) -> list[Referrer]:
    """Read an index of referrers.

    Raises:
        ContentFault: malformed.
    """
    entries = manifests.parse_object(name, data).get("manifests")
    if not isinstance(entries, list):
        raise ContentFault(f"{name}: manifests is not a list")
    try:
        return [Referrer.from_json(entry) for entry in cast("list[object]", entries)]
    except (ValueError, TypeError, AttributeError) as error:
        raise ContentFault(f"{name}: {printable(str(error))}") from error


def list_of(referrers: Sequence[Referrer]) -> bytes:
    """Return the bytes of an index of *referrers*."""
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [referrer.to_json() for referrer in referrers],
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def subject_of(data: bytes, media_type: str) -> tuple[Digest, Referrer] | None:
    """Return the digest that the manifest *data* refers to, and its entry in a list; None: nothing.

    Raises:
        ContentFault: it is broken.
    """
    name = f"manifest {Digest.of(data)}"
    body = manifests.parse_object(name, data)
    if not body.get("subject"):
        return None
    try:
        subject = Descriptor.from_json(body["subject"])
    except (ValueError, TypeError, AttributeError) as error:
        raise ContentFault(f"{name}: subject: {printable(str(error))}") from error
    kind = body.get("artifactType")
    config = body.get("config")
    if not kind and isinstance(config, dict):  # what an artifact of before 1.1 has in its place
        kind = cast("dict[str, object]", config).get("mediaType")
    notes = body.get("annotations")
    texts = cast("dict[str, object]", notes) if isinstance(notes, dict) else {}
    described = Descriptor(
        media_type, Digest.of(data), len(data), {k: str(v) for k, v in texts.items()}
    )
    return subject.digest, Referrer(described, kind if isinstance(kind, str) else "")
