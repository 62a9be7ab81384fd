"""The mounts of ``run`` and ``create``, from the options and the image to directories that are there [CTR-100]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from pybuild.commandline.parser import Parsed
from pybuild.engine.engine import Engine
from pybuild.model.errors import UserError
from pybuild.model.jsontext import as_object
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint, settled
from pybuild.volumes.provision import provide
from pybuild.volumes.reading import read_bind, read_mount, read_tmpfs, read_volumes_from
from pybuild.volumes.volumes import Volumes


class Provision:
    """The mounts of a container that is being made.

    Attributes:
        passing: the volumes without a name that go again, unless the container comes to be.
    """

    def __init__(self) -> None:
        self.mounts: tuple[MountPoint, ...] = ()
        self.passing: list[str] = []

    def keep(self) -> None:
        """Let the volumes without a name stay: there is a container that has them."""
        self.passing.clear()


@asynccontextmanager
async def provision(
    parsed: Parsed,
    engine: Engine,
    config: Mapping[str, Any],
    lowers: Sequence[str],
    *,
    lasts: bool,
) -> AsyncGenerator[Provision]:
    """Have the mounts of a container for the block: volumes come to be, and nobody removes them.

    Args:
        config: the image's; its volumes count where the container *lasts*.

    Raises:
        UserError, UsageError: a wrong option, or what it names is not there.
    """
    given = [
        *map(read_bind, parsed.many("volume")),
        *map(read_mount, parsed.many("mount")),
        *map(read_tmpfs, parsed.many("tmpfs")),
    ]
    others = list(await asyncio.to_thread(_of_others, engine, parsed.many("volumes-from")))
    image = list(as_object(config.get("Volumes"))) if lasts else []
    mounts = settled(given, others, image)
    volumes = Volumes(engine.store)
    known = Provision()
    try:
        with ExitStack() as held:
            known.mounts = await provide(
                volumes, engine.workers, engine.mount_dir, mounts, lowers, held, known.passing
            )
            yield known
    finally:
        for name in known.passing:
            with suppress(UserError):
                volumes.remove(name, lambda name: ())


def _of_others(engine: Engine, texts: Iterable[str]) -> Iterable[MountPoint]:
    """Return the mounts of the containers of ``--volumes-from``."""
    mounts: list[MountPoint] = []
    for text in texts:
        from pybuild.containers.containers import Containers

        name, readonly = read_volumes_from(text)
        for mount in Containers(engine.store).find(name).config.mounts:
            if mount.kind is not MountKind.TMPFS:
                ours = replace(mount, origin=MountOrigin.VOLUMES_FROM, text=text)
                mounts.append(ours if readonly is None else replace(ours, readonly=readonly))
    return mounts
