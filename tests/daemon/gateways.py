"""Builds whose frontend is the test itself: parked on the server, and driven by the gateway's calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from pybuild.buildkit.pb import control, gateway
from pybuild.client.session import ClientSession
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata

BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
CONTROL = "/moby.buildkit.v1.Control/"


class Gateway:
    """One parked build."""

    def __init__(self, channel: Channel, ref: str, parked: asyncio.Task[bytes]) -> None:
        self._channel = channel
        self.metadata = Metadata({"buildkit-controlapi-buildid": ref})
        self._parked = parked

    async def call(self, method: str, request: bytes) -> bytes:
        return await self._channel.unary(
            BRIDGE + method, request, metadata=self.metadata, timeout=60
        )

    async def solve(self, request: gateway.SolveRequest) -> gateway.Result:
        request.allowResultReturn = request.allowResultArrayRef = True
        data = await self.call("Solve", request.SerializeToString())
        return gateway.SolveResponse.FromString(data).result

    async def give(self, result: gateway.Result) -> Mapping[str, str]:
        """Return *result* as the build's, and return the response to its client."""
        await self.call("Return", gateway.ReturnRequest(result=result).SerializeToString())
        async with asyncio.timeout(60):
            data = await self._parked
        return dict(control.SolveResponse.FromString(data).ExporterResponse)


@asynccontextmanager
async def parked(
    channel: Channel,
    handlers: Mapping[str, Handler] | None = None,
    request: control.SolveRequest | None = None,
) -> AsyncGenerator[Gateway]:
    """Begin a build in a session that offers *handlers*; what is not returned ends with the context."""
    request = request if request is not None else control.SolveRequest()
    request.Ref = os.urandom(8).hex()
    async with ClientSession(dict(handlers or {})).open(channel) as session:
        request.Session = session.id
        solve = asyncio.create_task(
            channel.unary(CONTROL + "Solve", request.SerializeToString(), timeout=120)
        )
        try:
            yield Gateway(channel, request.Ref, solve)
        finally:
            solve.cancel()
            await asyncio.gather(solve, return_exceptions=True)
