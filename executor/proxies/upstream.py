"""The way from a proxy to the servers that steps ask: connections, in the network that steps would have."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.executor.steps.spec import Connecting
from pybuild.executor.workers.job import JobService, WorkerModule, job
from pybuild.net.http1.answer import Answer, BadAnswer
from pybuild.net.http1.connection import Body, Connection, Cut
from pybuild.net.http1.faults import HttpFault
from pybuild.net.http1.pool import Pool, Route
from pybuild.net.http1.tlsfiles import Tls
from pybuild.net.tls import make_context

if TYPE_CHECKING:
    from yarl import URL

    from pybuild.executor.zygote import proxyspace
else:
    proxyspace = WorkerModule("pybuild.executor.zygote.proxyspace")

_CONNECT_S = 30.0
_AT_ONCE = 32  # sockets that are made together, for a namespace costs more than they do


class EgressSockets:
    """Sockets in a network like that of steps, made in a worker: this process keeps to its own network."""

    def __init__(self, workers: JobService, connecting: Connecting) -> None:
        self._workers = workers
        self._connecting = connecting
        self._made: list[socket.socket] = []
        self._lock = asyncio.Lock()

    async def take(self) -> socket.socket:
        """Return one that is connected to nothing yet.

        Raises:
            EnvironmentFault: there can be none.
        """
        async with self._lock:
            if not self._made:
                await self._make()
            return self._made.pop()

    async def _make(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            function, words = self._connecting.function, self._connecting.words
            work = job(proxyspace.sockets, function, words, _AT_ONCE)
            await self._workers.call(work, fds=[theirs.fileno()])
            _, fds, _, _ = socket.recv_fds(ours, 1, _AT_ONCE)
        self._made = [socket.socket(fileno=fd) for fd in fds]
        for one in self._made:
            one.setblocking(False)

    def close(self) -> None:
        """Let go of those that nobody took."""
        while self._made:
            self._made.pop().close()


class Upstream:
    """Connections to servers, kept for the next request.

    Args:
        sockets: where they come from; None: from this process's own network.
        ca: files of authorities that servers may have beside the system's.

    Attributes:
        faults: whatever it raises, beside OSError, where a server gives no answer.
    """

    faults = (HttpFault, Cut, BadAnswer)

    def __init__(self, sockets: EgressSockets | None, ca: Sequence[str]) -> None:
        self._sockets = sockets
        self._tls = Tls(ca=tuple(name for name in ca if os.path.isabs(name)))
        dialled = self._dialled if sockets is not None else None
        self._pool = Pool(_CONNECT_S, make_context, dialled)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._pool.close()
        if self._sockets is not None:
            self._sockets.close()

    async def ask(
        self, method: str, url: URL, head: bytes, body: Body | None
    ) -> tuple[Connection, Answer, Callable[[], None]]:
        """Send a request; return its connection, the head of the answer, and how to give the one back.

        Raises:
            OSError, PybuildError, and those of `faults`.
        """
        tls = self._tls if url.scheme == "https" else None
        route = Route(url.raw_host or "", url.port or 0, tls)
        connection, answer = await self._pool.ask(url, route, method, head, body)
        return connection, answer, lambda: self._pool.give_back(route, connection)

    async def _dialled(self, host: str, port: int) -> socket.socket:
        """Connect to the first address of *host* that answers, of IP version 4: steps have no other."""
        assert self._sockets is not None
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(
            host, port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        error: OSError = OSError(f"{host} has no address")
        for *_, address in addresses:
            one = await self._sockets.take()
            try:
                await loop.sock_connect(one, address)
            except OSError as failure:
                one.close()
                error = failure
                continue
            except BaseException:
                one.close()
                raise
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return one
        raise error
