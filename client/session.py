"""Offers services to a build server: opens a session, and serves the server's calls in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from pybuild.buildkit.session.bytesmessage import CallBytes
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.server import GrpcServer

METHOD = "/moby.buildkit.v1.Control/Session"
_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
_PATIENCE_S = 5.0
_FAREWELL_S = 0.2
_PREFIX = "x-docker-expose-session-"


async def _check(request: bytes, call: IncomingCall) -> bytes:
    del request, call
    return _SERVING


class ClientSession:
    """One session; of any number of builds.

    Args:
        handlers: of the server's calls, by ``/package.Service/Method``.
        shared_key: equal keys promise equal directories; empty promises nothing.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], *, shared_key: str = "", id: str = ""
    ) -> None:
        self._handlers = {_HEALTH: unary(_check), **handlers}
        self.id = id or os.urandom(16).hex()
        self._shared_key = shared_key

    def metadata(self) -> Metadata:
        """The headers that open the session."""
        metadata = Metadata({_PREFIX + "uuid": self.id, _PREFIX + "sharedkey": self._shared_key})
        for method in sorted(self._handlers):
            metadata.add(_PREFIX + "grpc-method", method)
        return metadata

    @asynccontextmanager
    async def open(self, channel: Channel) -> AsyncGenerator[ClientSession]:
        """Keep the session open within the context; it has begun when the context is entered.

        Raises:
            RpcError: the server refuses it.
        """
        async with channel.stream(METHOD, metadata=self.metadata()) as call:
            await call.headers()
            server = GrpcServer(self._handlers)
            task = asyncio.create_task(server.serve_stream(CallBytes(call)))
            patience_s = _PATIENCE_S
            try:
                yield self
            except asyncio.CancelledError:
                patience_s = _FAREWELL_S  # somebody waits for the end of us
                raise
            finally:
                # The server answers the end of our side by ending its own, and so the tunnel.
                await call.half_close()
                await asyncio.wait((task,), timeout=patience_s)
                task.cancel()
                await server.close(0.0)
                await asyncio.gather(task, return_exceptions=True)
