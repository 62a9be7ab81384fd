"""The server's process: listens, serves, and ends clean."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from pybuild.cache.disk.ownership import warning_of_key
from pybuild.daemon.buildservices import BuildServices
from pybuild.daemon.sockets import door_of, listeners_at, remove_socket
from pybuild.engine.engine import Engine
from pybuild.model.errors import UsageError
from pybuild.model.printable import in_log
from pybuild.net.activation import HandedSocket, notify, take
from pybuild.net.latedoor import LateDoor

if TYPE_CHECKING:
    import socket
    import ssl

    from pybuild.engine.settings import Daemon, Settings
    from pybuild.net.doorway import Doorway

_GRACE_S = 5.0


def default_address(root: str) -> str:
    """The address of a server without one in its settings."""
    if os.geteuid() == 0:
        return "unix:///run/pybuild/pybuild.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"unix://{runtime or root}/pybuild/pybuild.sock"


def docker_addresses(path: str, addresses: Sequence[str]) -> Sequence[str]:
    """Return the addresses for Docker's API: a socket's path, ``auto`` where its clients look, and others [ENG-42]."""
    if path == "auto":
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        is_ours = os.geteuid() != 0 and runtime
        path = os.path.join(runtime, "docker.sock") if is_ours and runtime else "/run/docker.sock"
    return [*([f"unix://{path}"] if path else []), *addresses]


async def serve(
    settings: Settings,
    addresses: Sequence[str],
    *,
    insecure: bool,
    docker: Sequence[str] = (),
    within: Callable[[Engine], AbstractAsyncContextManager[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, also what comes to sockets that a service manager hands us.

    Args:
        insecure: listen on TCP without TLS all the same.
        docker: addresses for Docker's REST API.
        within: entered with the engine before anybody is served, and left last.

    Raises:
        UsageError: an address that cannot be. EnvironmentFault: one that cannot be had.
    """
    log_to_stderr()
    daemon = settings.daemon
    handed = take(os.environ)
    for_docker = [one for one in handed if one.is_docker]
    for_builds = [one for one in handed if not one.is_docker]
    addresses = _without_handed(addresses or daemon.addresses, for_builds)
    docker = _without_handed(docker, for_docker)
    if not addresses and not for_builds:
        addresses = [default_address(settings.root)]
    shown = [*addresses, *(one.shown for one in for_builds)]
    context = _tls(daemon, shown, insecure=insecure)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(settings))
        if within is not None:
            await stack.enter_async_context(within(engine))
        builds = BuildServices(engine, daemon)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        doors: list[LateDoor] = []
        rest = AsyncExitStack()

        async def door(bound: socket.socket) -> Doorway:
            return door_of((await builds.open()).grpc, bound, context)

        try:
            if docker or for_docker:
                serving = _rest(engine, builds, docker, for_docker, insecure=insecure)
                await rest.enter_async_context(serving)
            doors += [LateDoor(one.socket, door) for one in for_builds]
            for address in addresses:
                doors += [LateDoor(one, door) for one in await listeners_at(address)]
            for address in shown:
                sys.stderr.write(f"running server on {address}\n")
                if address.startswith("tcp://") and not (context and daemon.ca):
                    sys.stderr.write(_open_to_all(address, settings.network == "isolated"))
            sys.stderr.flush()
            notify("READY=1")
            await stop.wait()
        finally:
            notify("STOPPING=1")
            for one in doors:
                one.close()
            await rest.aclose()
            await builds.close(_GRACE_S)
            await asyncio.gather(*[one.closed() for one in doors])
            for address in addresses:
                remove_socket(address)


def _tls(daemon: Daemon, addresses: Sequence[str], *, insecure: bool) -> ssl.SSLContext | None:
    """Return the context of the connections to *addresses*, None: they go without TLS.

    Raises:
        UsageError: one would let anybody in.
    """
    if daemon.cert:
        from pybuild.net.http1.tlsfiles import KeyPair
        from pybuild.net.tls import server_context

        context = server_context(KeyPair(daemon.cert, daemon.key), daemon.ca, protocols=["h2"])
        if unsafe := warning_of_key(daemon.key or daemon.cert):
            sys.stderr.write(f"warning: {unsafe}\n")
        return context
    for address in addresses:
        if address.startswith("tcp://") and not insecure:
            raise UsageError(
                f"{address}: a TCP address without TLS lets anybody build as this user",
                hints=["give --tlscert and --tlskey, or say --insecure"],
            )
    return None


@asynccontextmanager
async def _rest(
    engine: Engine,
    builds: BuildServices,
    addresses: Sequence[str],
    handed: Sequence[HandedSocket],
    *,
    insecure: bool,
) -> AsyncGenerator[None]:
    """Serve Docker's REST API at *addresses*, and on sockets that were handed to us, for the block."""
    from pybuild.daemon.rest import serving  # HTTP is loaded where it is spoken
    from pybuild.daemon.rest.places import PlaceMaker, RestPlace

    maker = PlaceMaker(engine.settings.daemon, insecure=insecure)
    bound: list[str] = []
    places: list[RestPlace] = [maker.handed(one) for one in handed]
    try:
        for address in addresses:
            places += await maker.listen(address)
            bound.append(address)
        async with serving.listening(engine, builds, places, _GRACE_S):
            for shown in dict.fromkeys(place.shown for place in places):
                sys.stderr.write(f"running Docker's API on {shown}\n")
            for shown in dict.fromkeys(place.shown for place in places if place.is_open):
                sys.stderr.write(
                    f"warning: everybody who reaches {shown}, each user of this machine at least, "
                    "may do all that this user may; see --tlscacert\n"
                )
            yield
    finally:
        for place in places:
            place.listener.close()
        for address in bound:
            remove_socket(address)


def _without_handed(addresses: Sequence[str], handed: Sequence[HandedSocket]) -> list[str]:
    """Return the addresses to listen on besides ``fd://``, the sockets that were handed to us.

    Raises:
        UsageError: none was.
    """
    if any(address.startswith("fd://") for address in addresses) and not handed:
        raise UsageError(
            "fd://: no socket was handed to this process",
            hints=["start it by a socket unit of systemd: pybuild daemon units prints one"],
        )
    return [address for address in addresses if not address.startswith("fd://")]


def _open_to_all(address: str, isolated_network: bool) -> str:
    """Return the warning about an address where nobody has to show a certificate."""
    steps = ", every step of a Dockerfile on this machine too while steps share its network"
    return (
        f"warning: everybody who reaches {address} builds here as this user"
        f"{'' if isolated_network else steps}; see --tlscacert\n"
    )


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
