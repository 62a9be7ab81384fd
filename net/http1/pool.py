"""Connections that are kept for the next request to the same place."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from pybuild.model.dataclass import dataclass
from pybuild.net.http1.answer import Answer
from pybuild.net.http1.connection import Body, Connection, Cut
from pybuild.net.http1.dialing import Dialled, dial
from pybuild.net.http1.faults import proxy_fault, undialled
from pybuild.net.http1.proxies import Proxy
from pybuild.net.http1.tlsfiles import Tls

if TYPE_CHECKING:
    from yarl import URL

_KEPT_S = 15.0  # servers close what is idle for long, and a request on its way is lost then


@dataclass(frozen=True, slots=True)
class Route:
    """The far end of a connection, and the way to it.

    Attributes:
        tls: None: in the clear.
        proxy: on the way; None for none.
        socket: the path of a socket of this machine, in place of host and port; empty for none.
    """

    host: str
    port: int
    tls: Tls | None
    proxy: Proxy | None = None
    socket: str = ""


class Pool:
    """All connections, in use or not. Close it.

    Args:
        dialled: connects to hosts and ports, where that is not done from this machine as usual.
    """

    def __init__(
        self,
        connect_s: float,
        context: Callable[[Tls], ssl.SSLContext],
        dialled: Dialled | None = None,
    ) -> None:
        self._connect_s = connect_s
        self._context = context
        self._dialled = dialled
        self._kept: dict[Route, list[tuple[Connection, float]]] = {}
        self._used: set[Connection] = set()

    async def close(self) -> None:
        """Close all connections; idempotent."""
        kept = [connection for several in self._kept.values() for connection, _ in several]
        for connection in [*kept, *self._used]:
            connection.close()
        self._kept.clear()
        self._used.clear()
        await asyncio.sleep(0)  # the loop closes their sockets now

    async def ask(
        self, url: URL, route: Route, method: str, head: bytes, body: Body | None
    ) -> tuple[Connection, Answer]:
        """Send a request; return what its answer comes over, to be given back, and its head.

        Raises:
            HttpFault: there is no connection. What `Connection.ask` raises.
        """
        connection = self._take(route)
        if connection is not None:
            try:
                return connection, await self._answered(connection, method, head, body)
            except (Cut, ConnectionError):
                # A server may close a kept connection while we send: that is nobody's fault.
                if body is not None or method not in ("GET", "HEAD"):
                    raise
        connection = await self._dial(url, route)
        return connection, await self._answered(connection, method, head, body)

    def give_back(self, route: Route, connection: Connection) -> None:
        """Keep a connection whose answer was read; close any other."""
        self._used.discard(connection)
        if connection.is_reusable:
            now = asyncio.get_running_loop().time()
            self._kept.setdefault(route, []).append((connection, now))
        else:
            connection.close()

    async def _answered(
        self, connection: Connection, method: str, head: bytes, body: Body | None
    ) -> Answer:
        self._used.add(connection)
        try:
            return await connection.ask(method, head, body)
        except BaseException:
            self._used.discard(connection)
            connection.close()
            raise

    def _take(self, route: Route) -> Connection | None:
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(route, [])
        while kept:
            connection, since = kept.pop()
            # One that spoke without being asked would have that taken for the next answer.
            if connection.is_reusable and now - since < _KEPT_S:
                return connection
            connection.close()
        return None

    async def _dial(self, url: URL, route: Route) -> Connection:
        context = self._context(route.tls) if route.tls is not None else None
        try:
            async with asyncio.timeout(self._connect_s):
                return await dial(url, context, route.proxy, route.socket, self._dialled)
        except TimeoutError as error:
            if route.proxy is not None:
                raise proxy_fault(error, route.proxy, url) from error
            raise
        except OSError as error:
            raise undialled(error, None if route.socket else url) from error
