"""Images and their history in docker's words: rows of lists, and what programs get beside them."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from pybuild.cache.content.imagelist import (
    ImageFacts,
    age,
    familiar_repository,
    moment,
    names_of,
    unpacked_bytes,
)
from pybuild.cache.store import Store
from pybuild.image.manifest import parse_config, resolve
from pybuild.model.amounts import short_bytes
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.listing import cut
from pybuild.model.platform import Platform


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


def history_rows(
    store: Store, image: Descriptor, platform: Platform, *, whole: bool, has_whole_ids: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the steps of an image, newest first, and what programs get beside each.

    Sizes are those of the unpacked layers.

    Args:
        whole: texts are not shortened; *has_whole_ids*: neither are ids.
    """
    _, document = resolve(image, lambda one: store.blobs.read(one.digest), platform)
    config = parse_config(store.blobs.read(document.config.digest))
    layers = iter(document.layers)
    entries: list[dict[str, Any]] = config.get("history") or []
    rows: list[dict[str, Any]] = []
    exact: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, 1):
        layer = None if entry.get("empty_layer") else next(layers, None)
        size = unpacked_bytes(store, [layer]) if layer else 0
        text, created = str(entry.get("created_by") or ""), str(entry.get("created") or "")
        comment = str(entry.get("comment") or "")
        id, short_id = "<missing>", "<missing>"
        if number == len(entries):
            id, short_id = str(document.config.digest), document.config.digest.short
        compressed = layer.size if layer else 0
        rows.append(
            {
                "Comment": comment,
                "CompressedSize": short_bytes(compressed),
                "CreatedAt": created,
                "CreatedBy": text if whole else cut(" ".join(text.split()), 45),
                "CreatedSince": age(moment(created)),
                "ID": id if has_whole_ids else short_id,
                "Size": "N/A" if size is None else short_bytes(size),
            }
        )
        exact.append(
            {
                "id": id,
                "created": created,
                "created_by": text,
                "comment": comment,
                "size": compressed,
            }
        )
    return rows[::-1], exact[::-1]
