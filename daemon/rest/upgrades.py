"""BuildKit's protocols inside Docker's API: ``/grpc`` and ``/session`` [ENG-39, EP-6]."""

from __future__ import annotations

import os
from collections.abc import Mapping

from aiohttp import web

from pybuild.daemon.buildservices import ServedBuilds
from pybuild.daemon.rest.exchange import ApiExchange, Handler
from pybuild.daemon.rest.hijack import RawStream, Taken, upgraded
from pybuild.daemon.rest.lines import AHEAD_BYTES
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.session.sessions import SessionInfo
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.peer import Peer, user
from pybuild.net.grpc.status import RpcError


class RawBytes:
    """`net.grpc.tunnel.ByteStream` of a connection that was taken over."""

    def __init__(self, stream: RawStream) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        return await self._stream.reader.read(AHEAD_BYTES)

    async def write(self, data: bytes, /) -> None:
        await self._stream.send(data)

    def close(self) -> None:
        self._stream.end()


def _check(exchange: ApiExchange) -> None:
    if exchange.request.headers.get("Upgrade", "").lower() != "h2c":
        raise ApiRefusal(400, "expected an upgrade to h2c")


def client_of_api() -> Peer:
    """Return the client as its builds know it: whoever may use this API is as good as our own user."""
    return Peer("tunnel", owner=user(os.geteuid()))


async def served_builds(exchange: ApiExchange) -> ServedBuilds:
    """Return BuildKit's services.

    Raises:
        ApiRefusal: there are none.
    """
    if exchange.host.builds is None:
        raise ApiRefusal(501, "builds are not served here")
    return await exchange.host.builds.open()


async def grpc(exchange: ApiExchange) -> web.StreamResponse:
    """Serve BuildKit's services on this connection."""
    _check(exchange)
    builds = await served_builds(exchange)
    stream = await upgraded(exchange.request, "h2c")
    await builds.grpc.serve_stream(RawBytes(stream), client_of_api())
    return Taken()


async def session(exchange: ApiExchange) -> web.StreamResponse:
    """Take this connection as a client's session: we ask, it answers."""
    _check(exchange)
    builds = await served_builds(exchange)
    owner = client_of_api().owner
    headers = [(name.lower(), value) for name, value in exchange.request.headers.items()]
    sessions = builds.server.tenant(owner).sessions
    try:
        info = SessionInfo.read(Metadata(headers), owner)
        sessions.check(info)
    except RpcError as error:
        raise ApiRefusal(400, error.message) from error
    stream = await upgraded(exchange.request, "h2c")
    await sessions.serve(RawBytes(stream), info)
    return Taken()


STREAMS: Mapping[str, Handler] = {"POST /grpc": grpc, "POST /session": session}
