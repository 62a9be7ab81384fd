"""Connections to servers: straight or through an HTTP proxy, in the clear or with TLS [REG-9, REG-13]."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from pybuild.model.trust import trusting
from pybuild.net.http1.answer import Answer, BadAnswer
from pybuild.net.http1.connection import Connection, Cut
from pybuild.net.http1.faults import PLAIN_REASONS, proxy_fault, proxy_refusal, proxy_url
from pybuild.net.http1.proxies import Proxy

if TYPE_CHECKING:
    from yarl import URL

T = TypeVar("T")
Dialled = Callable[[str, int], Awaitable[socket.socket]]
"""Returns a socket that is connected to a host and a port."""

# What OpenSSL says of an answer that is not TLS.
_END_S = 1.0
_NEXT_ADDRESS_S = 0.25  # RFC 8305, "Connection Attempt Delay"


async def dial(
    url: URL,
    context: ssl.SSLContext | None,
    proxy: Proxy | None,
    path: str = "",
    dialled: Dialled | None = None,
) -> Connection:
    """Connect to the server of *url*.

    Args:
        context: for TLS with that server; None for none.
        proxy: a proxy to go through.
        path: of the socket of this machine that the server listens at, whatever *url* says.
        dialled: connects, in place of ourselves.

    Raises:
        OSError, ssl.SSLError among them: no connection.
        HttpFault: the proxy cannot be reached, or does not connect us.
    """
    loop = asyncio.get_running_loop()
    if path:
        _, near = await loop.create_unix_connection(Connection, path)
        return near
    if proxy is None:
        return await _connected(url, context, dialled)
    via = proxy_url(proxy)
    try:
        connection = await _connected(via, trusting() if via.scheme == "https" else None)
    except OSError as error:
        raise proxy_fault(error, proxy, url) from error
    if context is None:
        return connection
    try:
        try:
            answer = await _open_tunnel(connection, url, via)
        except (OSError, Cut, BadAnswer) as error:
            raise proxy_fault(error, proxy, url) from error
        if answer.status != 200:
            raise proxy_refusal(answer.status, proxy, url)
        tls = loop.start_tls(
            connection.transport, connection, context, server_hostname=url.raw_host
        )
        transport = await _ended_by(tls, connection.close)
        if transport is None:
            raise ConnectionResetError
        connection.moved(transport)
    except BaseException:
        connection.close()
        raise
    return connection


async def _connected(
    url: URL, context: ssl.SSLContext | None, connect: Dialled | None = None
) -> Connection:
    """Connect to the host of *url* itself, with TLS if there is a *context*."""
    dialled = await (connect or _dialled)(url.raw_host or "", url.port or 0)
    try:
        name = url.raw_host if context else None
        loop = asyncio.get_running_loop()
        work = loop.create_connection(Connection, sock=dialled, ssl=context, server_hostname=name)
        _, connection = await _ended_by(work, lambda: dialled.shutdown(socket.SHUT_RDWR))
    except BaseException:
        dialled.close()
        raise
    return connection


async def _ended_by(work: Coroutine[Any, Any, T], end: Callable[[], object]) -> T:
    """Await *work*; when cancelled, have *end* end it, and wait for that.

    A handshake that is cancelled in uvloop goes on by itself, and complains when it fails that nobody
    asked for its outcome.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(OSError):
            end()
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([task], timeout=_END_S)
        raise


async def is_plain(url: URL) -> bool:
    """Return whether the server of *url* surely does not speak TLS; nothing is sent to it.

    Costs less than the settings of a real handshake, for which the system's certificates are read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        (await dial(url, context, None)).close()
    except ssl.SSLError as error:
        return error.reason in PLAIN_REASONS
    except OSError:
        pass
    return False


async def _dialled(host: str, port: int) -> socket.socket:
    """Connect to the first of a host's addresses that answers."""
    from aiohappyeyeballs import (
        start_connection,  # pyright: ignore[reportUnknownVariableType]
    )

    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    dialled = await start_connection(infos, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1)
    dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return dialled


async def _open_tunnel(connection: Connection, url: URL, proxy: URL) -> Answer:
    place = f"{bracketed(url.raw_host or '')}:{url.port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", *proxy_lines(proxy), "", ""]
    return await connection.ask("CONNECT", "\r\n".join(lines).encode("ascii"), None)


def proxy_lines(proxy: URL) -> list[str]:
    """Return the lines of a head that are for the proxy."""
    return [f"Proxy-Authorization: {basic(proxy)}"] if proxy.user else []


def basic(url: URL) -> str:
    """Return a URL's user and password in the form of a header."""
    return "Basic " + base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: IPv6 addresses are in brackets."""
    return f"[{host}]" if ":" in host else host
