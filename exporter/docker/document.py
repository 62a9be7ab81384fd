"""An image as ``docker image inspect`` describes it, of what the store has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybuild.cache.content.imagelist import (
    familiar_repository,
    image_facts,
    names_of,
    parent_id,
    unpacked_bytes,
)
from pybuild.cache.store import Store
from pybuild.model.descriptor import Descriptor
from pybuild.model.jsontext import as_object
from pybuild.model.reference import Reference

_NOT_SAID: Mapping[str, Any] = {
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
"""The fields that docker's Config has also where the image says nothing: templates rely on them."""


def document(store: Store, descriptor: Descriptor) -> dict[str, Any]:
    """Return the image with docker's names for its parts; ``Size`` is that of the unpacked layers."""
    facts = image_facts(store, "", descriptor)
    config, rootfs = facts.config, as_object(facts.config.get("rootfs"))
    names = [Reference.parse(name) for name in names_of(store, descriptor)]
    document: dict[str, Any] = {
        "Id": str(facts.image_id),
        "RepoTags": [name.familiar for name in names],
        "RepoDigests": sorted({f"{familiar_repository(n)}@{descriptor.digest}" for n in names}),
        "Parent": parent_id(store, facts),
        "Comment": str(config.get("comment") or _last_comment(config)),
        "Created": str(config.get("created") or ""),
        "Author": str(config.get("author") or ""),
        "Config": {**_NOT_SAID, **as_object(config.get("config"))},
        "Architecture": str(config.get("architecture") or ""),
        "Variant": str(config.get("variant") or ""),
        "Os": str(config.get("os") or ""),
        "Size": unpacked_bytes(store, facts.layers) or facts.size,
        "CompressedSize": facts.size,
        "RootFS": {"Type": "layers", "Layers": rootfs.get("diff_ids") or []},
        "Descriptor": descriptor.to_json(),
    }
    if not document["Variant"]:
        del document["Variant"]
    return document


def _last_comment(config: Mapping[str, Any]) -> str:
    """Return the comment of the last layer, which docker takes from an image of OCI."""
    history: list[Any] = config.get("history") or [{}]
    return str(as_object(history[-1]).get("comment") or "")
