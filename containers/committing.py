"""An image of what a container is now: its layers, one more with its changes, and its config [CTR-90]."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.environment import environment_with
from pybuild.containers.inspecting import config_facts
from pybuild.containers.order import TREE
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.exporter.imagemaker import FinishedImage
from pybuild.exporter.layermaker import LayerMaker
from pybuild.image.config import NewHistory, assemble_config
from pybuild.image.manifest import BASE_DIGEST, Manifest, build_manifest, parse_manifest
from pybuild.model.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, InternalError, PybuildError
from pybuild.model.jsontext import as_object

_OF_ONE_CONTAINER = (
    *("AttachStdin", "AttachStdout", "AttachStderr", "Domainname", "Hostname", "Image"),
    *("OpenStdin", "StdinOnce", "StopTimeout", "Tty"),
)
_JOINED = ("ExposedPorts", "Labels", "Volumes")


async def commit_container(
    engine: Engine,
    container: Container,
    *,
    comment: str = "",
    author: str = "",
    given: Mapping[str, Any] | None = None,
) -> FinishedImage:
    """Write the image and return it; it has no name yet.

    Args:
        given: fields of docker's Config that come over the container's.

    Raises:
        UserError, EnvironmentFault: a layer cannot be made.
    """
    config = container.config
    maker = LayerMaker(engine, "gzip", None)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(maker.make(delta)) for delta in config.deltas]
        tasks.append(group.create_task(maker.of_directory(os.path.join(container.path, TREE))))
    layers = [task.result() for task in tasks]
    base = await asyncio.to_thread(_base, engine, config)
    history = NewHistory(
        created_by=" ".join(config.args), created=time.time(), comment=comment, author=author
    )
    document = assemble_config(
        {
            **base,
            "config": with_config(_image_config(config), given or {}),
            **({"author": author} if author else {}),
        },
        [diff_id for diff_id, _ in layers],
        [history],
        base_layer_count=len(config.deltas),
    )
    blobs = engine.store.blobs
    written = Descriptor(OCI_CONFIG, await asyncio.to_thread(blobs.put, document), len(document))
    base_digest = {BASE_DIGEST: config.manifest} if config.manifest else None
    data = build_manifest(
        written, [layer for _, layer in layers], OCI_MANIFEST, annotations=base_digest
    )
    digest = await asyncio.to_thread(blobs.put, data)
    return FinishedImage(Descriptor(OCI_MANIFEST, digest, len(data)), written)


def _base(engine: Engine, config: ContainerConfig) -> Mapping[str, Any]:
    """Return the config of the image that it was made of, less its time, as far as that is still here."""
    known: dict[str, Any] = {}
    try:
        known = json.loads(engine.store.blobs.read(Digest.parse(config.image_id)))
    except (OSError, ValueError, BlobMissing, PybuildError):
        known = {}  # it was removed, or is damaged: the layers are here all the same
    platform = native_platform()
    facts: dict[str, Any] = {"architecture": platform.arch, "os": platform.os, **known}
    return {key: value for key, value in facts.items() if key != "created"}


def reconfigured(store: Store, image: FinishedImage, other: str) -> FinishedImage:
    """Return an image as it is, but with that part of a config that containers take over from another, by its id.

    The other image is the same with lines of a Dockerfile on top, and both are removed.
    """
    blobs = store.blobs
    manifest = parse_manifest(blobs.read(image.manifest.digest), image.manifest.media_type)
    if not isinstance(manifest, Manifest):
        raise InternalError(f"{image.manifest.digest} is no manifest")
    document = json.loads(blobs.read(image.config.digest))
    document["config"] = json.loads(blobs.read(Digest.parse(other)))["config"]
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    config = Descriptor(image.config.media_type, blobs.put(data), len(data))
    data = build_manifest(
        config, manifest.layers, image.manifest.media_type, annotations=manifest.annotations
    )
    written = Descriptor(image.manifest.media_type, blobs.put(data), len(data))
    for one in (store.images.resolve(other), image.manifest):
        if one is not None:
            store.images.remove(str(one.digest))
    return FinishedImage(written, config)


def with_config(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with fields of another over it: maps and variables are joined, the rest is replaced."""
    known = dict(own)
    for name, value in given.items():
        if name in _JOINED:
            known[name] = {**as_object(known.get(name)), **value}
        elif name == "Env":
            named = {item.partition("=")[0] for item in value}
            known[name] = [*value, *environment_with({}, named, own)]
        else:
            known[name] = value
    if "Env" in known:  # of a container also those that are to be none
        known["Env"] = [item for item in known["Env"] if "=" in item]
    return known


def _image_config(config: ContainerConfig) -> dict[str, Any]:
    """Return the part of a container's config that becomes its image's."""
    facts = {
        key: value for key, value in config_facts(config).items() if key not in _OF_ONE_CONTAINER
    }
    return {key: value for key, value in facts.items() if value not in (None, "", {}, [])}
