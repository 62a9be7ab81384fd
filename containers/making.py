"""A container made of an image: its layers had, its volumes made, its record written; nothing runs [CTR-9]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.image import FoundImage
from pybuild.containers.mounts import GivenMounts, provision
from pybuild.containers.names import new_name
from pybuild.engine.engine import Engine
from pybuild.image.manifest import Manifest, parse_manifest
from pybuild.model.descriptor import Descriptor
from pybuild.model.jsontext import as_object
from pybuild.model.snapshot import Snapshot


async def make_container(
    engine: Engine,
    described: ContainerConfig,
    image: FoundImage,
    given: GivenMounts,
    *,
    checks_networks: bool = True,
) -> Container:
    """Make a container and return it.

    Args:
        checks_networks: refuse networks that there are not; else its start does.
        described: it, but for its layers, its mounts and, where it was given none, its name.
        image: which the engine's store keeps for now.

    Raises:
        UserError, EnvironmentFault: there can be none.
    """
    described = described._replace(
        image_root=str(image.root.digest),
        manifest=str(image.manifest.digest),
        image_id=_image_id(engine, image.manifest),
    )
    layers = engine.layers().of_image(image.manifest.digest)
    return await make_of_tree(
        engine, described, layers, image.config, given, checks_networks=checks_networks
    )


async def make_of_tree(
    engine: Engine,
    described: ContainerConfig,
    tree: Snapshot,
    image: Mapping[str, Any],
    given: GivenMounts,
    *,
    checks_networks: bool = True,
) -> Container:
    """As `make_container`, of a tree that the engine's store keeps for now, and that need be no image's."""
    if described.networks:
        await asyncio.to_thread(_see_to_networks, engine, described, is_check=checks_networks)
    lowers = await engine.layers().ensure(tree.deltas, lambda event: None)
    described = described._replace(
        deltas=tuple(os.path.basename(os.path.dirname(lower)) for lower in lowers)
    )
    places = list(as_object(image.get("Volumes")))
    async with provision(engine, given, places, lowers) as provided:
        described = described._replace(mounts=provided.mounts)
        container = await asyncio.to_thread(_create, engine, described)
        provided.keep()
    return container


def _see_to_networks(engine: Engine, config: ContainerConfig, *, is_check: bool) -> None:
    from pybuild.networks.networks import Networks  # with all that speaks to the kernel about them

    networks = Networks(engine.store.root)
    if not is_check:
        networks.have_predefined()
        return
    for one in config.networks:
        networks.find(one.network)


def _image_id(engine: Engine, manifest: Descriptor) -> str:
    document = parse_manifest(engine.store.blobs.read(manifest.digest), manifest.media_type)
    return str(document.config.digest if isinstance(document, Manifest) else manifest.digest)


def _create(engine: Engine, config: ContainerConfig) -> Container:
    containers = Containers(engine.store)
    if not config.name:
        config = config._replace(name=new_name(config.id, containers.names()))
    return containers.create(config)
