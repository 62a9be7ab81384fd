"""The mounts of a container that is being made: volumes come to be and are filled, by an engine's workers [CTR-100]."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.model.errors import UserError
from pybuild.volumes.mountpoint import MountPoint
from pybuild.volumes.provision import provide
from pybuild.volumes.volumes import Volumes

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine


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
    engine: Engine, mounts: Sequence[MountPoint], lowers: Sequence[str]
) -> AsyncGenerator[Provision]:
    """Have the mounts of a container for the block: volumes come to be, and nobody removes them.

    Raises:
        UserError, EnvironmentFault: there can be none.
    """
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
