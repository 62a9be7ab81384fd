"""Serving Docker's REST API: for those who may be root here."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from pybuild.containers.booting import start_after_boot
from pybuild.containers.containers import Containers
from pybuild.daemon.buildservices import BuildServices
from pybuild.daemon.rest.app import RestApi
from pybuild.daemon.rest.exchange import RestHost
from pybuild.daemon.rest.places import RestPlace
from pybuild.engine.engine import Engine
from pybuild.model.printable import in_log
from pybuild.net.doorway import Admission, Doorway, Visit
from pybuild.net.tlsstream import TlsVisit
from pybuild.registry.server.connections import PatientServer

_KEEP_ALIVE_S = 3600.0
_BEGIN_S = 60.0
_MOST_CONNECTIONS = 12_000


@asynccontextmanager
async def listening(
    engine: Engine, builds: BuildServices, places: Sequence[RestPlace], grace_s: float
) -> AsyncGenerator[None]:
    """Serve for the block what comes to *places*."""
    host = RestHost(engine, builds)
    api = RestApi(host, {socket.gethostname().lower(), *(place.host.lower() for place in places)})
    server = PatientServer(api.answer, keep_alive_s=_KEEP_ALIVE_S, ends_unheard=True)
    runner = web.ServerRunner(server, shutdown_timeout=grace_s)
    await runner.setup()
    doors = [
        Doorway(partial(_visit, server, place.tls), _admission(), place.listener)
        for place in places
    ]
    boot = asyncio.create_task(asyncio.to_thread(_start_after_boot, host.containers))
    try:
        yield
    finally:
        for door in doors:
            door.close()
        await boot
        await runner.cleanup()
        host.close()


def _visit(server: PatientServer, tls: ssl.SSLContext | None) -> Visit:
    return server.visit() if tls is None else TlsVisit(server.visit(), tls)


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
