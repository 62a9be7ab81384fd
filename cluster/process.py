"""A worker's process: listens, serves, and ends clean."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Sequence

from pybuild.cluster.dialing import WorkerAddresses
from pybuild.cluster.service import WorkerService
from pybuild.daemon.process import log_to_stderr
from pybuild.daemon.sockets import door_of, listeners_at, read_address, remove_socket
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.net.activation import notify
from pybuild.net.doorway import Doorway
from pybuild.net.grpc.peer import Peer, user
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.http1.tlsfiles import KeyPair, Tls
from pybuild.net.tls import make_context, server_context

_GRACE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """The files by which the machines of a cluster know each other: all have one of the same authority."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    def server(self) -> ssl.SSLContext:
        """Return the TLS settings of who listens.

        Raises:
            UsageError: a file is missing or cannot be read.
        """
        if not (self.ca and self.cert):
            raise UsageError(
                "workers on TCP need certificates, and give work to nobody without",
                hints=["give --tlscacert, --tlscert and --tlskey, or listen on unix://PATH"],
            )
        return server_context(KeyPair(self.cert, self.key), self.ca, protocols=["h2"])

    def client(self) -> ssl.SSLContext | None:
        """Return the TLS settings of who connects; None without certificates."""
        if not (self.ca and self.cert):
            return None
        pair = KeyPair(self.cert, self.key)
        return make_context(Tls(ca=(self.ca,), keypairs=(pair,), only=True))


def trusts(peer: Peer) -> bool:
    """Return whether a worker works for *peer*: its own user, or root, or who has the cluster's certificate."""
    if peer.kind == "unix":
        return peer.owner in (user(os.geteuid()), user(0))
    return peer.kind == "tcp" and peer.owner.startswith("certificate:")


async def serve_worker(
    settings: Settings, addresses: Sequence[str], slots: int, certificates: Certificates
) -> None:
    """Run steps for coordinators until SIGTERM or SIGINT.

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
    async with Engine(settings) as engine:
        peers = WorkerAddresses(certificates.client())
        service = WorkerService(engine, slots, peers, trusts)
        grpc = GrpcServer(service.handlers())
        doors: list[Doorway] = []
        try:
            for address in addresses:
                bound = await listeners_at(address)
                doors += [door_of(grpc, one, context) for one in bound]
                sys.stderr.write(f"running worker on {address}\n")
            sys.stderr.flush()
            notify("READY=1")
            await stop.wait()
        finally:
            notify("STOPPING=1")
            for door in doors:
                door.close()
            await grpc.close(_GRACE_S)
            await asyncio.gather(*[door.closed() for door in doors])
            await peers.close()
            for address in addresses:
                remove_socket(address)
