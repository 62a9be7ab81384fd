"""A worker's process: listens, serves, and ends clean."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from pybuild.cluster.agentkeeper import AgentKeeper
from pybuild.cluster.certificates import Certificates, trusts
from pybuild.cluster.dialing import WorkerAddresses
from pybuild.cluster.service import WorkerService
from pybuild.daemon.process import log_to_stderr
from pybuild.daemon.sockets import door_of, listeners_at, read_address, remove_socket
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.model.errors import UsageError
from pybuild.model.platform import Platform
from pybuild.net.activation import notify
from pybuild.net.doorway import Doorway
from pybuild.net.grpc.server import GrpcServer

_GRACE_S = 2.0


async def serve_worker(
    settings: Settings,
    addresses: Sequence[str],
    slots: int,
    certificates: Certificates,
    scheduler: str = "",
    name: str = "",
    platforms: Sequence[Platform] = (),
    *,
    until_eof: bool = False,
) -> None:
    """Run steps for coordinators until SIGTERM or SIGINT.

    Args:
        scheduler: of the engine, at which to announce ourselves; empty: coordinators know us.
        name: the address by which coordinators reach us; empty: the first of *addresses*.
        platforms: those whose steps we run; empty: all that we can.
        until_eof: end with standard input, too: whoever started us holds its other end, and may be killed.

    Raises:
        UsageError: an address that cannot be; EnvironmentFault: one that cannot be had.
    """
    log_to_stderr()
    context = None
    if any(read_address(address).scheme == "tcp" for address in addresses):
        context = certificates.server()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        _watch_input(loop, stop)
    async with Engine(settings) as engine:
        peers = WorkerAddresses(certificates.client())
        service = WorkerService(engine, slots, peers, trusts, platforms)
        grpc = GrpcServer(service.handlers())
        doors: list[Doorway] = []
        agent: AgentKeeper | None = None
        try:
            for address in addresses:
                bound = await listeners_at(address)
                doors += [door_of(grpc, one, context) for one in bound]
                sys.stderr.write(f"running worker on {address}\n")
            sys.stderr.flush()
            if scheduler:
                given = scheduler, name or addresses[0], slots, certificates.words()
                agent = AgentKeeper(service.runs, *given, engine.store)
                agent.open()
            notify("READY=1")
            await stop.wait()
        finally:
            notify("STOPPING=1")
            if agent is not None:
                await agent.close()
            for door in doors:
                door.close()
            await grpc.close(_GRACE_S)
            await service.close()
            await asyncio.gather(*[door.closed() for door in doors])
            await peers.close()
            for address in addresses:
                remove_socket(address)


def _watch_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set *stop* when standard input ends.

    Raises:
        UsageError: it is a file, or a device like /dev/null.
    """

    def look() -> None:
        if not os.read(0, 1 << 12):
            loop.remove_reader(0)
            stop.set()

    try:
        loop.add_reader(0, look)
    except OSError as error:
        raise UsageError("--until-eof is for a standard input that is a pipe") from error
