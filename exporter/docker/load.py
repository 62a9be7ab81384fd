"""Loads an image of the store into a Docker engine, sending only blobs that it lacks [OUT-4]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence

from pybuild.cache.store import Store
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step
from pybuild.exporter.docker.address import Address, address_of
from pybuild.exporter.docker.engine import DockerEngine
from pybuild.exporter.pipe import Piped
from pybuild.image.archive import NamedImage, write_docker_archive
from pybuild.image.manifest import diff_ids_of, parse_config, resolve
from pybuild.model.clock import Clock
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.model.events import Emit
from pybuild.model.reference import Reference

Say = Callable[[str], None]


async def load_if_running(
    store: Store,
    clock: Clock,
    environ: Mapping[str, str],
    image: Descriptor,
    names: Sequence[str],
    emit: Emit,
) -> None:
    """Load *image* into the Docker engine of this machine too, if one answers.

    Raises:
        EnvironmentFault: it is there and refuses.
    """
    try:
        address = address_of(environ)
    except UsageError:
        return  # an address that is not for us, such as ssh://
    if address.is_absent:
        return
    async with DockerEngine(address) as engine:
        if await engine.answers():
            title = f"loading into docker engine at {address.url}"
            async with internal_step(title, emit, clock) as step:
                await _load(store, engine, image, names, step.say)


async def load_into(
    store: Store, address: Address, image: Descriptor, names: Sequence[str], say: Say
) -> None:
    """Load *image* into the engine at *address*.

    Raises:
        EnvironmentFault: it cannot be reached, or refuses.
    """
    async with DockerEngine(address) as engine:
        await _load(store, engine, image, names, say)


async def _load(
    store: Store, engine: DockerEngine, image: Descriptor, names: Sequence[str], say: Say
) -> None:
    def read(blob: Descriptor) -> bytes:
        return store.blobs.read(blob.digest)

    # The engine's own format has one platform.
    manifest, document = resolve(image, read, native_platform())
    if await _is_there(engine, document.config.digest, names):
        say("the image is there")
        return
    diff_ids = [str(diff_id) for diff_id in diff_ids_of(parse_config(read(document.config)))]
    known = await engine.known_layers(diff_ids)
    without = {layer.digest for layer in document.layers[:known]}
    without -= {layer.digest for layer in document.layers[known:]}
    named = NamedImage(manifest, names)
    if known:
        say(f"{known} of {len(diff_ids)} layers are there")
    try:
        lines = await _send(store, engine, named, without)
    except EnvironmentFault:
        if not without:
            raise
        lines = await _send(store, engine, named, ())  # it wants to see them all
    for line in lines:
        say(line)


async def _is_there(engine: DockerEngine, image_id: Digest, names: Sequence[str]) -> bool:
    """Whether the engine has the image, by all of *names* now."""
    tags = await engine.tags_of(str(image_id))
    if tags is None:
        return False
    for name in names:
        reference = Reference.parse(name)
        if reference.familiar not in tags:
            repository = reference.familiar.removesuffix(f":{reference.tag}")
            await engine.tag(str(image_id), repository, reference.tag or "latest")
    return True


async def _send(
    store: Store, engine: DockerEngine, image: NamedImage, without: Collection[Digest]
) -> list[str]:
    async def work(fd: int) -> None:
        def run() -> None:
            with os.fdopen(os.dup(fd), "wb", buffering=1 << 20) as file:
                write_docker_archive(file, store.blobs.path, [image], without=without)

        await asyncio.to_thread(run)

    async with Piped(work) as pieces:
        return await engine.load(pieces)
