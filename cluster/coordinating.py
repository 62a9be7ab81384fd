"""A process that coordinates: a daemon for as long as it serves, a command for its build."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from pybuild.builds.localbuilder import LocalBuilder
from pybuild.cluster.clusterfile import read_cluster
from pybuild.cluster.control import controlled
from pybuild.cluster.local import LocalCluster
from pybuild.cluster.members import Members
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.model.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from pybuild.builds.memo import CommandOptions

Within = Callable[[Engine], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def coordinating(
    members: Members, local: LocalCluster | None, engine: Engine
) -> AsyncGenerator[None]:
    """Have the builds of a daemon's *engine* run on a cluster, and answer `pybuild cluster ls` and the like."""
    async with AsyncExitStack() as stack:
        if local is not None:
            members = await stack.enter_async_context(
                local.running(members, engine.store.scratch("cluster"))
            )
        cluster = await stack.enter_async_context(members.clustered(engine))
        await stack.enter_async_context(controlled(cluster.fleet, engine.settings.root))
        for address, reason in cluster.fleet.reasons.items():
            sys.stderr.write(f"warning: worker {address}: {reason}\n")
        if cluster.dispatch is not None and not cluster.dispatch.ready.is_set():
            sys.stderr.write(f"warning: no scheduler: {cluster.dispatch.reason}\n")
        count, steps = len(cluster.fleet.workers), cluster.fleet.slots
        sys.stderr.write(f"{_number(count, 'worker')} with {_number(steps, 'slot')}\n")
        yield


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def coordinating_by(path: str, settings: Settings) -> Within:
    """Return `coordinating` with the cluster that a file names.

    Raises:
        UsageError: as `read_cluster`.
    """
    return partial(coordinating, *read_cluster(path, settings))


class ClusterBuilder(LocalBuilder):
    """This process as a builder whose steps run on the cluster of ``--cluster FILE``."""

    def __init__(self, parsed: CommandOptions) -> None:
        super().__init__(parsed)
        path = parsed.one("cluster")
        members, local = read_cluster(path, self.settings)
        if local is not None:
            raise UsageError(
                f"{path} has workers started here, which is not for one build",
                hints=[f"pybuild daemon --cluster {path} starts them for all of its builds"],
            )
        self.within = partial(_for_a_build, path, members)


@asynccontextmanager
async def _for_a_build(path: str, members: Members, engine: Engine) -> AsyncGenerator[None]:
    async with members.clustered(engine) as cluster:
        if not cluster.fleet.workers:
            reasons = [f"{address}: {why}" for address, why in cluster.fleet.reasons.items()]
            if cluster.dispatch is not None and not cluster.dispatch.ready.is_set():
                reasons.append(f"no scheduler: {cluster.dispatch.reason}")
            raise EnvironmentFault(f"no worker of {path} answers", hints=reasons[:2])
        yield
