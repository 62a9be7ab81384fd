"""A container made of an image: its layers had, its volumes made, its record written; nothing runs [CTR-9].

What is all in the store is made of files alone, at once. Layers that are to be unpacked and volumes that
are to be filled take an engine, whose imports and workers take longer than all else here.
"""

from __future__ import annotations

import os

from pybuild.containers.containers import Containers
from pybuild.containers.linking import with_ids
from pybuild.containers.mounts import all_mounts
from pybuild.containers.names import new_name
from pybuild.executor.heldlayers import HeldLayers, candidates_of
from pybuild.executor.trees.storeform import is_ours
from pybuild.image.manifest import Manifest, parse_manifest
from pybuild.model.jsontext import as_object
from pybuild.networks.records import PREDEFINED, NetworkFiles
from pybuild.volumes.mountpoint import MountKind, make_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pybuild.cache.store import Store
    from pybuild.containers.config import ContainerConfig
    from pybuild.containers.container import Container
    from pybuild.containers.image import FoundImage
    from pybuild.containers.mounts import GivenMounts
    from pybuild.engine.engine import Engine
    from pybuild.model.descriptor import Descriptor
    from pybuild.model.snapshot import Snapshot
    from pybuild.volumes.mountpoint import MountPoint


def make_at_once(
    store: Store,
    described: ContainerConfig,
    image: FoundImage,
    given: GivenMounts,
    *,
    checks_networks: bool = True,
) -> Container | None:
    """Make a container and return it; None: it takes an engine, and nothing was made.

    Args:
        described: it, but for its layers, its mounts and, where it was given none, its name.
        image: which *store* keeps for now.
        checks_networks: refuse networks that there are not; else its start does.

    Raises:
        UserError, EnvironmentFault: there can be none.
    """
    if not is_ours(store.root):
        return None
    _see_to_networks(store, described, is_check=checks_networks)
    held = HeldLayers(store, store.lease)
    lowers = held.ensure(candidates_of(held.of_image(image.manifest.digest).deltas))
    mounts = _mounts(store, given, image.config)
    if lowers is None or any(mount.kind == MountKind.VOLUME for mount in mounts):
        return None
    for mount in mounts:
        if mount.kind == MountKind.BIND:
            make_source(mount)
    return _create(store, _of_image(store, described, image), lowers, mounts)


async def make_container(
    engine: Engine,
    described: ContainerConfig,
    image: FoundImage,
    given: GivenMounts,
    *,
    checks_networks: bool = True,
) -> Container:
    """As `make_at_once`; what has to be unpacked or filled is.

    Raises:
        UserError, EnvironmentFault: there can be none.
    """
    import asyncio

    store = engine.store
    made = await asyncio.to_thread(
        make_at_once, store, described, image, given, checks_networks=checks_networks
    )
    if made is not None:
        return made
    return await make_of_tree(
        engine,
        _of_image(store, described, image),
        engine.layers().of_image(image.manifest.digest),
        image.config,
        given,
        checks_networks=checks_networks,
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
    import asyncio

    from pybuild.containers.provisioning import provision

    store = engine.store
    await asyncio.to_thread(_see_to_networks, store, described, is_check=checks_networks)
    lowers = await engine.layers().ensure(tree.deltas, lambda event: None)
    mounts = await asyncio.to_thread(_mounts, store, given, image)
    async with provision(engine, mounts, lowers) as provided:
        container = await asyncio.to_thread(_create, store, described, lowers, provided.mounts)
        provided.keep()
    return container


def _see_to_networks(store: Store, config: ContainerConfig, *, is_check: bool) -> None:
    if not config.networks:
        return
    names = {*PREDEFINED, *(one.network for one in config.networks if is_check)}
    files = NetworkFiles(os.path.join(store.root, "networks"))
    if names.issubset(one.name for one in files.networks()):
        return
    from pybuild.networks.networks import Networks  # with all that speaks to the kernel about them

    networks = Networks(store.root)
    if not is_check:
        networks.have_predefined()
        return
    for one in config.networks:
        networks.find(one.network)


def _mounts(store: Store, given: GivenMounts, image: Mapping[str, Any]) -> Sequence[MountPoint]:
    return all_mounts(store, given, list(as_object(image.get("Volumes"))))


def _of_image(store: Store, config: ContainerConfig, image: FoundImage) -> ContainerConfig:
    return config._replace(
        image_root=str(image.root.digest),
        manifest=str(image.manifest.digest),
        image_id=_image_id(store, image.manifest),
    )


def _image_id(store: Store, manifest: Descriptor) -> str:
    document = parse_manifest(store.blobs.read(manifest.digest), manifest.media_type)
    return str(document.config.digest if isinstance(document, Manifest) else manifest.digest)


def _create(
    store: Store, config: ContainerConfig, lowers: Sequence[str], mounts: Sequence[MountPoint]
) -> Container:
    config = config._replace(
        deltas=tuple(os.path.basename(os.path.dirname(lower)) for lower in lowers),
        mounts=tuple(mounts),
    )
    containers = Containers(store)
    if not config.name:
        config = config._replace(name=new_name(config.id, containers.names()))
    return containers.create(with_ids(containers.find, config))
