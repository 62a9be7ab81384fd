"""A server and a channel to it, for the tests of the gRPC layer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.server import GrpcServer

WAIT_S = 60.0


@asynccontextmanager
async def serving(
    handlers: Mapping[str, Handler], limits: GrpcLimits | None = None
) -> AsyncGenerator[Path, None]:
    """Serve on a Unix socket, and yield its path."""
    server = GrpcServer(handlers, limits=limits)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "s")
        loop = asyncio.get_running_loop()
        listener = await loop.create_unix_server(server.protocol, str(path))
        try:
            yield path
        finally:
            listener.close()
            await server.close(0)


@asynccontextmanager
async def channel(
    handlers: Mapping[str, Handler],
    limits: GrpcLimits | None = None,
    client_limits: GrpcLimits | None = None,
) -> AsyncGenerator[Channel, None]:
    """Serve, and connect to that."""
    async with serving(handlers, limits) as path, asyncio.timeout(WAIT_S):
        opened = await Channel.connect(f"unix://{path}", limits=client_limits)
        try:
            yield opened
        finally:
            await opened.close()


async def echo(request: bytes, call: IncomingCall) -> bytes:
    """Answer with the request."""
    return request


async def echo_all(call: IncomingCall) -> None:
    """Answer each message with itself."""
    while (message := await call.receive()) is not None:
        await call.send(message)


ECHO: dict[str, Handler] = {"/test.Echo/One": unary(echo), "/test.Echo/All": echo_all}
