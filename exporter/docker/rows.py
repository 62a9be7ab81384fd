"""Images and their history in docker's words: rows of lists, and what programs get beside them."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from pybuild.cache.content.imagelist import (
    ImageFacts,
    age,
    familiar_repository,
    names_of,
    unpacked_bytes,
)
from pybuild.cache.store import Store
from pybuild.model.amounts import short_bytes
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest


def image_row(store: Store, one: ImageFacts, whole: bool, needs_size: bool) -> dict[str, Any]:
    """Return an image's fields by docker's names for them."""
    name, created = one.reference, one.created
    size = unpacked_bytes(store, one.layers) if needs_size and one.layers else None
    return {
        "CompressedSize": short_bytes(one.size),
        "Containers": "N/A",
        "CreatedAt": f"{created.astimezone(UTC):%Y-%m-%d %H:%M:%S} +0000 UTC" if created else "N/A",
        "CreatedSince": age(created),
        "Digest": str(one.descriptor.digest),
        "ID": str(one.image_id) if whole else one.image_id.short,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(one.labels.items())),
        "Repository": familiar_repository(name) if name else "<none>",
        "SharedSize": "N/A",
        "Size": "N/A" if size is None else short_bytes(size),
        "Tag": name.tag if name and name.tag else "<none>",
        "UniqueSize": "N/A",
    }


def image_facts(one: ImageFacts) -> dict[str, Any]:
    """Return the fields that programs get beside docker's: whole names and ids, bytes."""
    name = one.reference
    return {
        "repository": name.repository if name else "<none>",
        "tag": (name.tag or "") if name else "",
        "id": str(one.image_id),
        "digest": str(one.descriptor.digest),
        "created": str(one.config.get("created") or ""),
        "size": one.size,
    }


def image_parts(store: Store, descriptor: Descriptor) -> dict[str, Any]:
    manifest = json.loads(store.blobs.read(descriptor.digest))
    shown: dict[str, Any] = {"descriptor": descriptor.to_json(), "manifest": manifest}
    shown["names"] = names_of(store, descriptor)
    if "config" in manifest:
        shown["config"] = json.loads(store.blobs.read(Digest.parse(manifest["config"]["digest"])))
    return shown


def shortened(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
