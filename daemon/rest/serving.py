"""Listening for Docker's REST API: a socket for those who may be root here."""

from __future__ import annotations

import asyncio
import grp
import os
import resource
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from pybuild.containers.booting import start_after_boot
from pybuild.containers.containers import Containers
from pybuild.daemon.rest.app import RestApi
from pybuild.daemon.rest.exchange import RestHost, ServedBuilds
from pybuild.engine.engine import Engine
from pybuild.model.printable import in_log
from pybuild.net.doorway import Admission, Doorway
from pybuild.registry.server.connections import PatientServer

_BACKLOG = 512
_KEEP_ALIVE_S = 3600.0
_BEGIN_S = 60.0
_MOST_CONNECTIONS = 12_000
_GROUP = "docker"


def admit_group(path: str) -> None:
    """Let the group ``docker`` connect, where there is one and we may say so."""
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(_GROUP).gr_gid)
        os.chmod(path, 0o660)


@asynccontextmanager
async def listening(
    engine: Engine, builds: ServedBuilds, listener: socket.socket, grace_s: float
) -> AsyncGenerator[None]:
    """Serve for the block what comes to *listener*."""
    host = RestHost(engine, builds)
    api = RestApi(host)
    server = PatientServer(api.answer, keep_alive_s=_KEEP_ALIVE_S, ends_unheard=True)
    runner = web.ServerRunner(server, shutdown_timeout=grace_s)
    await runner.setup()
    listener.listen(_BACKLOG)
    door = Doorway(server.visit, _admission(), listener)
    boot = asyncio.create_task(asyncio.to_thread(_start_after_boot, host.containers))
    try:
        yield
    finally:
        door.close()
        await boot
        await runner.cleanup()
        host.close()


def _start_after_boot(containers: Containers) -> None:
    """Start what its restart policy has run since the machine has come up; say what does not [MON-7]."""
    started, failed = start_after_boot(containers)
    for one in started:
        sys.stderr.write(f"started container {one.config.name}\n")
    for error in failed:
        sys.stderr.write(f"warning: {in_log(str(error))}\n")


def _admission() -> Admission:
    """Leave descriptors for the work: connections get a half of what the process may have."""
    most = _MOST_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        most = max(1, min(most, files // 2))
    return Admission(
        connections=most,
        machine=most,  # who may connect at all is one user, or as good as one
        waiting=max(10, most // 2),
        begin_s=_BEGIN_S,
        idle_s=_KEEP_ALIVE_S,
    )
