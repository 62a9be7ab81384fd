"""Listening for browsers on this machine's loopback."""

from __future__ import annotations

import errno
import secrets
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aiohttp import web

from pybuild.cache.store import Store
from pybuild.engine.engine import Engine
from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.net.doorway import Admission, Doorway, tcp_listener
from pybuild.registry.server.connections import PatientServer
from pybuild.registry.server.serving import parse_address
from pybuild.web.access import BrowserAccess, own_names
from pybuild.web.site import Site

_KEEP_ALIVE_S = 75.0
_GRACE_S = 2.0
_BACKLOG = 128
_TRIES = 20
_ADMISSION = Admission(connections=256, machine=256, waiting=64, begin_s=60.0, idle_s=150.0)
_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def page_at(address: str) -> Callable[[Engine], AbstractAsyncContextManager[None]]:
    """Return the page as a server is entered with it.

    Args:
        address: HOST:PORT of this machine's loopback; ``auto``: a port that is free.

    Raises:
        UsageError: others would reach it.
    """
    port = _port(address)

    @asynccontextmanager
    async def serving(engine: Engine) -> AsyncGenerator[None]:
        async with serving_page(engine.store, port, _announce):
            yield

    return serving


def _announce(link: str) -> None:
    sys.stderr.write(f"the page opens once by {link}\n")
    sys.stderr.flush()


@asynccontextmanager
async def serving_page(
    store: Store, port: int, announce: Callable[[str], None]
) -> AsyncGenerator[int]:
    """Serve for the block; gives the port.

    Args:
        port: 0: one that is free.
        announce: called with each link that opens the page once.

    Raises:
        EnvironmentFault: something else listens there.
    """
    listeners = _listeners(port)
    taken = int(listeners[0].getsockname()[1])
    names = own_names(taken, f"pybuild-{secrets.token_hex(8)}")
    access = BrowserAccess(names, taken, time.monotonic, announce)
    site = Site(store, access)
    server = PatientServer(site.answer, keep_alive_s=_KEEP_ALIVE_S, ends_unheard=True)
    runner = web.ServerRunner(server, shutdown_timeout=_GRACE_S)
    await runner.setup()
    doors = [Doorway(server.visit, _ADMISSION, one) for one in listeners]
    try:
        access.make_link()
        yield taken
    finally:
        site.stop()
        for door in doors:
            door.close()
        await runner.cleanup()


def _port(address: str) -> int:
    if address == "auto":
        return 0
    host, port = parse_address(address)
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise UsageError(
            f"--web {address}: the page is served on this machine's loopback alone",
            hints=[
                f"take 127.0.0.1:{port}, and from another machine ssh -L {port}:127.0.0.1:{port}"
            ],
        )
    return port


def _listeners(port: int) -> list[socket.socket]:
    """Listen at one port of both loopback addresses: browsers try both, and nobody else is to have one of them."""
    for _ in range(_TRIES):
        try:
            first = tcp_listener(socket.AF_INET, ("127.0.0.1", port), _BACKLOG)
        except OSError as error:
            raise _fault(port, error) from error
        taken = first.getsockname()[1]
        try:
            return [first, tcp_listener(socket.AF_INET6, ("::1", taken), _BACKLOG)]
        except OSError as error:
            if error.errno in _NO_SUCH_FAMILY:
                return [first]
            first.close()
            if port or error.errno != errno.EADDRINUSE:
                raise _fault(taken, error) from error
    raise EnvironmentFault("cannot listen on loopback: no port is free on 127.0.0.1 and ::1 both")


def _fault(port: int, error: OSError) -> EnvironmentFault:
    reason = error.strerror or str(error)
    return EnvironmentFault(f"cannot listen on port {port} of loopback: {reason}")
