"""BuildKit's services, made when the first client wants them: their modules are a half of what a daemon could load."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.daemon.control.settings import ServerSettings
from pybuild.model.dataclass import dataclass

if TYPE_CHECKING:
    from pybuild.daemon.control.server import BuildServer
    from pybuild.engine.engine import Engine
    from pybuild.engine.settings import Daemon
    from pybuild.net.grpc.calls import Handler
    from pybuild.net.grpc.limits import GrpcLimits
    from pybuild.net.grpc.server import GrpcServer


@dataclass(frozen=True, slots=True)
class ServedBuilds:
    """The builds of one engine, and the server that clients reach them by."""

    grpc: GrpcServer
    server: BuildServer


class BuildServices:
    """Builds for any number of clients, of the first of which they are made.

    Raises:
        UsageError: the files about this machine cannot be read.
    """

    def __init__(self, engine: Engine, daemon: Daemon) -> None:
        self._engine = engine
        self._settings = _as_server(daemon)
        self._opening: asyncio.Task[ServedBuilds] | None = None

    async def open(self) -> ServedBuilds:
        """Return them; whoever comes while they are loaded waits, and nobody else does."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> ServedBuilds:
        await asyncio.to_thread(_load)
        from pybuild.daemon.control.server import BuildServer
        from pybuild.net.grpc.server import GrpcServer

        server = BuildServer(self._engine, self._settings)
        return ServedBuilds(GrpcServer(services(server), limits=_limits()), server)

    async def close(self, grace_s: float) -> None:
        """End what was opened: calls have *grace_s* to end."""
        if self._opening is None:
            return
        served = await self._opening
        await served.grpc.close(grace_s)
        await served.server.close()


def _load() -> None:
    """Import what builds need: in a thread, beside which others are served."""


def services(server: BuildServer) -> dict[str, Handler]:
    """Return all that *server* does for clients, by method."""
    from pybuild.daemon.control.bridge import BridgeService
    from pybuild.daemon.control.contents import ContentService
    from pybuild.daemon.control.health import health
    from pybuild.daemon.control.service import ControlService

    return {
        **ControlService(server).handlers(),
        **BridgeService(server.frontend, server.worker).handlers(),
        **ContentService(server).handlers(),
        **server.accounts.handlers(),
        **health(),
    }


def _as_server(daemon: Daemon) -> ServerSettings:
    """Return the settings of the services that the configuration gives."""
    machine: Mapping[str, object] = {}
    if daemon.provenance_dir:
        from pybuild.exporter.attest.machine import read_machine  # for those who have such files

        machine = read_machine(daemon.provenance_dir)
    return ServerSettings(
        entitlements=frozenset(daemon.entitlements),
        labels=dict(daemon.labels),
        machine=machine,
        proxy_network=daemon.proxy_network,
        share=daemon.share,
        clients=daemon.clients,
    )


def _limits() -> GrpcLimits:
    """Leave descriptors for the work: connections get a part of the process's limit."""
    from pybuild.net.grpc.limits import GrpcLimits

    limits = GrpcLimits()
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, files // 4)))
