"""The server's process: listens, serves, and ends clean."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import stat
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from pybuild.cache.disk.ownership import doubt, refuses, warning_of_key
from pybuild.daemon.control.bridge import BridgeService
from pybuild.daemon.control.contents import ContentService
from pybuild.daemon.control.health import health
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.control.service import ControlService
from pybuild.daemon.control.settings import ServerSettings
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.attest.machine import read_machine
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.model.printable import in_log
from pybuild.net.doorway import Doorway, listen_tcp
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.http1.tlsfiles import KeyPair
from pybuild.net.tls import server_context

_GRACE_S = 5.0
_BACKLOG = 128


def default_address(root: str) -> str:
    """The address of a server without one in its settings."""
    if os.geteuid() == 0:
        return "unix:///run/pybuild/pybuild.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"unix://{runtime or root}/pybuild/pybuild.sock"


def docker_socket(text: str) -> str:
    """Return the path of a socket for Docker's API; ``auto`` is where its clients look [ENG-42]."""
    if text != "auto":
        return text
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0 or not runtime:
        return "/run/docker.sock"
    return os.path.join(runtime, "docker.sock")


async def serve(
    settings: Settings, addresses: Sequence[str], *, insecure: bool, docker_socket: str = ""
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        insecure: listen on TCP without TLS all the same.
        docker_socket: the path of a socket for Docker's REST API; "": there is none.

    Raises:
        UsageError: an address that cannot be. EnvironmentFault: one that cannot be had.
    """
    log_to_stderr()
    daemon = settings.daemon
    addresses = list(addresses or daemon.addresses or [default_address(settings.root)])
    context = None
    if daemon.cert:
        context = server_context(KeyPair(daemon.cert, daemon.key), daemon.ca, protocols=["h2"])
    for address in addresses:
        if address.startswith("tcp://") and context is None and not insecure:
            raise UsageError(
                f"{address}: a TCP address without TLS lets anybody build as this user",
                hints=["give --tlscert and --tlskey, or say --insecure"],
            )
    unsafe = warning_of_key(daemon.key or daemon.cert)
    if context is not None and unsafe:
        sys.stderr.write(f"warning: {unsafe}\n")
    async with Engine(settings) as engine:
        config = ServerSettings(
            entitlements=frozenset(daemon.entitlements),
            labels=dict(daemon.labels),
            machine=read_machine(daemon.provenance_dir),
            share=daemon.share,
            clients=daemon.clients,
        )
        server = BuildServer(engine, config)
        grpc = GrpcServer(services(server), limits=_limits())
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        doors: list[Doorway] = []
        rest = AsyncExitStack()
        try:
            if docker_socket:
                await rest.enter_async_context(_rest(engine, server, grpc, docker_socket))
            for address in addresses:
                doors += await _listen(grpc, address, context)
            for address in addresses:
                sys.stderr.write(f"running server on {address}\n")
                if address.startswith("tcp://") and not (context and daemon.ca):
                    sys.stderr.write(_open_to_all(address, settings.network == "isolated"))
            sys.stderr.flush()
            await stop.wait()
        finally:
            for door in doors:
                door.close()
            await rest.aclose()
            await grpc.close(_GRACE_S)
            await asyncio.gather(*[door.closed() for door in doors])
            await server.close()
            for address in addresses:
                _remove_socket(address)


@asynccontextmanager
async def _rest(
    engine: Engine, server: BuildServer, grpc: GrpcServer, path: str
) -> AsyncGenerator[None]:
    """Serve Docker's REST API on a socket for the block."""
    from pybuild.daemon.rest import serving  # HTTP is loaded where it is spoken
    from pybuild.daemon.rest.exchange import ServedBuilds

    address = f"unix://{path}"
    try:
        bound = unix_socket(path)
    except OSError as error:
        raise EnvironmentFault(f"cannot listen on {address}: {error.strerror or error}") from error
    serving.admit_group(path)
    try:
        async with serving.listening(engine, ServedBuilds(grpc, server), bound, _GRACE_S):
            sys.stderr.write(f"running Docker's API on {address}\n")
            yield
    finally:
        _remove_socket(address)


def services(server: BuildServer) -> dict[str, Handler]:
    """Return all that *server* does for clients, by method."""
    return {
        **ControlService(server).handlers(),
        **BridgeService(server.frontend, server.worker).handlers(),
        **ContentService(server).handlers(),
        **server.accounts.handlers(),
        **health(),
    }


def _open_to_all(address: str, isolated_network: bool) -> str:
    """Return the warning about an address where nobody has to show a certificate."""
    steps = ", every step of a Dockerfile on this machine too while steps share its network"
    return (
        f"warning: everybody who reaches {address} builds here as this user"
        f"{'' if isolated_network else steps}; see --tlscacert\n"
    )


def _limits() -> GrpcLimits:
    """Leave descriptors for the work: connections get a part of the process's limit."""
    limits = GrpcLimits()
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, files // 4)))


async def _listen(grpc: GrpcServer, address: str, context: ssl.SSLContext | None) -> list[Doorway]:
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            bound = unix_socket(parts.path)
            bound.listen(_BACKLOG)
            return [Doorway(grpc.protocol, grpc.admission, bound)]
        if parts.scheme == "tcp" and parts.port is not None:
            listeners = await listen_tcp(parts.hostname, parts.port, _BACKLOG)
            return [Doorway(grpc.protocol, grpc.admission, bound, context) for bound in listeners]
    except OSError as error:
        raise EnvironmentFault(f"cannot listen on {address}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"invalid address {address}: {error}") from error
    raise UsageError(f"invalid address {address}: expected unix://PATH or tcp://HOST:PORT")


def unix_socket(path: str) -> socket.socket:
    """Bind *path* for this user alone; a socket that nobody listens on any more is replaced."""
    folder = os.path.dirname(path) or "/"
    os.makedirs(folder, mode=0o711, exist_ok=True)
    mode = os.stat(folder).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UsageError(
            f"cannot listen on unix://{path}: everybody may put another socket in its place",
            hints=[f"take a directory that only you may write to, or chmod o-w {folder}"],
        )
    mistrust = doubt(path)
    if refuses(mistrust):
        raise UsageError(
            f"cannot listen on unix://{path}: {mistrust.text}, "
            "and could put another socket in its place",
            hints=["take a directory that only you may change, such as one in /run"],
        )
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(path)
                except OSError:
                    os.unlink(path)
                else:
                    raise EnvironmentFault(f"cannot listen on unix://{path}: a server is there")
    except FileNotFoundError:
        pass
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(bound.fileno(), 0o600)  # the file is made with it: it is never open to others
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_socket(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme == "unix":
        try:
            os.unlink(parts.path)
        except FileNotFoundError:
            pass


class _InLog(logging.Formatter):
    """Warnings and faults, in which clients' texts may stand."""

    def format(self, record: logging.LogRecord) -> str:
        return in_log(super().format(record))


def log_to_stderr() -> None:
    """Write our log to standard error, if nobody else takes it."""
    logger = logging.getLogger("pybuild")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_InLog())
        logger.addHandler(handler)
        logger.propagate = False
