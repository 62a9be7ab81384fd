"""A build on this machine by a frontend that is an image: a build server in this process makes it, for us alone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from pybuild.builds.build import load_result, with_load
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.client.build import build
from pybuild.client.explain import reports
from pybuild.daemon.buildservices import services
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.control.settings import ServerSettings
from pybuild.engine.engine import Engine
from pybuild.engine.interruptible import run_interruptible
from pybuild.engine.settings import Settings
from pybuild.explain.report import BuildReport
from pybuild.model.errors import PybuildError, UsageError
from pybuild.model.events import Emit
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.peer import Peer, user
from pybuild.net.grpc.server import GrpcServer

_GRACE_S = 5.0
_PIECE_BYTES = 256 << 10


def build_here(
    settings: Settings,
    request: BuildRequest,
    emit: Emit,
    explained: Callable[[BuildReport], None] | None = None,
) -> BuildResult:
    """Make one build; as `pybuild.builds.builder.Builder.build`."""

    async def work() -> BuildResult:
        async with Engine(settings) as engine:
            return await build_on(engine, request, emit, explained)

    return run_interruptible(work())


async def build_on(
    engine: Engine,
    request: BuildRequest,
    emit: Emit,
    explained: Callable[[BuildReport], None] | None = None,
) -> BuildResult:
    """Make one build with the store of *engine*.

    Raises:
        UsageError: it asks for what no frontend is told of. PybuildError: it fails.
    """
    if request.volumes:
        raise UsageError(
            "-v gives steps directories of this machine, and no frontend that is an image may",
            hints=[
                "send the files: --build-context NAME=DIR and RUN --mount=from=NAME,target=PATH"
            ],
        )
    if request.max_ages:
        raise UsageError(
            "--max-age is about steps of a Dockerfile, and a frontend that is an image reads this one",
            hints=["have stages run again: --no-cache-filter STAGE"],
        )
    ref = os.urandom(16).hex()
    attrs = {} if request.pull in (True, "newer") else {"image-resolve-mode": "local"}
    async with _served(engine, request) as channel:
        try:
            result = await build(channel, with_load(request), emit, ref=ref, attrs=attrs)
        except PybuildError:
            await _explain(channel, ref, explained)
            raise
        await _explain(channel, ref, explained)
    await load_result(engine, request, result, os.environ, emit)
    return result


async def _explain(
    channel: Channel, ref: str, explained: Callable[[BuildReport], None] | None
) -> None:
    if explained is not None:
        for report in await reports(channel, ref=ref):
            explained(report)


@asynccontextmanager
async def _served(engine: Engine, request: BuildRequest) -> AsyncGenerator[Channel]:
    """Give a connection to a build server on *engine*, which grants what the request may have."""
    server = BuildServer(engine, ServerSettings(entitlements=request.allow))
    grpc = GrpcServer(services(server))
    ours, theirs = map(_Socket, socket.socketpair())
    serving = asyncio.create_task(
        grpc.serve_stream(theirs, Peer(kind="unix", owner=user(os.geteuid())))
    )
    channel = await Channel.over(ours)
    try:
        yield channel
    finally:
        await channel.close()
        await grpc.close(_GRACE_S)
        await server.close()
        await serving


class _Socket:
    """One end of a pair of sockets as a stream of bytes."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._end, _PIECE_BYTES)

    async def write(self, data: bytes, /) -> None:
        await asyncio.get_running_loop().sock_sendall(self._end, data)

    def close(self) -> None:
        self._end.close()
