"""The mounts of a container that is being made, from what was given and the image to directories that are there [CTR-100]."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint, settled
from pybuild.volumes.reading import read_volumes_from
from pybuild.volumes.volumes import Volumes

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class GivenMounts:
    """The mounts that somebody wants: their own, and those of other containers by ``NAME[:ro]``."""

    own: Sequence[MountPoint] = ()
    others: Sequence[str] = ()


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
    engine: Engine, given: GivenMounts, image: Sequence[str], lowers: Sequence[str]
) -> AsyncGenerator[Provision]:
    """Have the mounts of a container for the block: volumes come to be, and nobody removes them.

    Args:
        image: the places where the image has volumes.

    Raises:
        UserError, UsageError: a wrong option, or what it names is not there.
    """
    # For those who make a container alone.
    import asyncio

    from pybuild.volumes.provision import provide

    others = list(await asyncio.to_thread(_of_others, engine, given.others))
    mounts = settled(given.own, others, image)
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
    """Return the mounts of other containers, which this one is to have, too."""
    mounts: list[MountPoint] = []
    for text in texts:
        from pybuild.containers.containers import Containers

        name, readonly = read_volumes_from(text)
        for mount in Containers(engine.store).find(name).config.mounts:
            if mount.kind != MountKind.TMPFS:
                ours = mount._replace(origin=MountOrigin.VOLUMES_FROM, text=text)
                mounts.append(ours if readonly is None else ours._replace(readonly=readonly))
    return mounts
