"""How a container gets its volumes when it is made: new ones come to be, and are filled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from pybuild.cache.disk.locks import locked
from pybuild.executor.workers.job import JobService, WorkerModule, job
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint, make_source
from pybuild.volumes.volume import LocalVolume
from pybuild.volumes.volumes import Volumes

if TYPE_CHECKING:
    from pybuild.volumes import firstuse
else:
    firstuse = WorkerModule("pybuild.volumes.firstuse")


async def provide(
    volumes: Volumes,
    jobs: JobService,
    mount_dir: Callable[[], str],
    mounts: Sequence[MountPoint],
    lowers: Sequence[str],
    held: ExitStack,
    made: list[str],
) -> tuple[MountPoint, ...]:
    """Make the volumes and directories that *mounts* lack, and return the mounts with their sources.

    Args:
        mount_dir: makes an empty directory that may be mounted on.
        lowers: the directories of the image's deltas, base first.
        held: keeps the volumes from being removed until a container that has them is written.
        made: gets the names of the volumes that were made without a name.

    Raises:
        UserError: a file of the image is in the place of a volume. EnvironmentFault: no space, no rights.
    """
    provided: list[MountPoint] = []
    for mount in mounts:
        if mount.kind == MountKind.BIND:
            make_source(mount)
        elif mount.kind == MountKind.VOLUME:
            volume = held.enter_context(_volume(volumes, mount))
            if not mount.source:
                made.append(volume.name)
            mount = mount._replace(source=volume.name)
            fills = not (mount.nocopy or volume.options)
            fills = fills and mount.origin != MountOrigin.VOLUMES_FROM
            work = job(
                firstuse.fill,
                mount_dir(),
                tuple(lowers),
                mount.target,
                volume.mountpoint,
                copy=fills,
                subpath=mount.subpath,
            )
            with ExitStack() as alone:
                if fills:  # of two that come at once, one copies
                    lock = os.path.join(os.path.dirname(volume.mountpoint), "filling")
                    await asyncio.to_thread(alone.enter_context, locked(lock))
                await jobs.call(work)
        provided.append(mount)
    return tuple(provided)


def _volume(volumes: Volumes, mount: MountPoint) -> AbstractContextManager[LocalVolume]:
    """Return the holding of the mount's volume, which is made where there is none."""
    if mount.origin == MountOrigin.VOLUMES_FROM:
        return volumes.held(mount.source)
    volume = volumes.create(
        mount.source, driver=mount.driver, options=mount.options, labels=mount.labels
    )
    return volumes.held(volume.name)
