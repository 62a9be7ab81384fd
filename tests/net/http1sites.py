"""Servers by hand on loopback, and the client's side that asks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from yarl import URL

from pybuild.net.http1.client import Response, Wire
from pybuild.net.http1.tlsfiles import Tls

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def listening(serve: Serve) -> AsyncGenerator[str]:
    """Serve each connection on a free port; yields ``host:port``."""

    serving: set[asyncio.Task[None]] = set()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(quietly, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


@asynccontextmanager
async def wire(idle_s: float = 5.0) -> AsyncGenerator[Wire]:
    one = Wire(5.0, idle_s, 1)
    try:
        yield one
    finally:
        await one.close()


async def get(wire: Wire, url: str, method: str = "GET", **more: Any) -> Response:
    """Send one request."""
    asking: dict[str, Any] = {"tls": Tls(), "proxy": None, "body": None, "length": 0, **more}
    return await wire.send(method, URL(url, encoded=True), more.pop("headers", {}), **asking)
