"""The client side: calls over one connection."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pybuild.net.grpc import timeouts
from pybuild.net.grpc.clientcall import ClientCall
from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.link import GrpcLink
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.peer import Peer
from pybuild.net.grpc.sockets import SocketProtocol, speak_h2
from pybuild.net.grpc.status import Code, RpcError
from pybuild.net.grpc.tunnel import ByteStream, Tunnel
from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import StreamGone
from pybuild.net.http2.events import Fields
from pybuild.net.http2.settings import Http2Limits
from pybuild.net.http2.streams import Buffer

_LINGER_S = 6.0  # sockets give up a little earlier
_HEADER_BYTES = 1 << 20  # a server's trailers may carry the source of what it could not build


class Channel:
    """One connection to a server, for any number of calls.

    Attributes:
        peer: the server.
    """

    def __init__(self, link: GrpcLink, authority: str, scheme: str = "http") -> None:
        self._link = link
        self._authority = authority.encode()
        self._scheme = scheme.encode()
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.closed = asyncio.Event()
        self.peer = Peer()
        link.on_closed = self._closed_by_link

    @classmethod
    async def over(cls, stream: ByteStream) -> Channel:
        """Begin a connection over a byte stream."""
        channel = cls(_link(None), "localhost")
        channel._task = asyncio.create_task(channel._run(Tunnel(channel._link, stream)))
        return channel

    @classmethod
    async def connect(
        cls,
        address: str,
        *,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
        limits: GrpcLimits | None = None,
    ) -> Channel:
        """Connect to ``unix://path``, ``tcp://host:port`` or ``host:port``.

        Raises:
            OSError: nobody answers there.
            ValueError: *address* is none.
        """
        loop = asyncio.get_running_loop()
        link = _link(limits)
        if ssl is not None:
            speak_h2(ssl)

        socket = SocketProtocol(lambda _: link, preface_s=None)

        def protocol() -> SocketProtocol:
            return socket

        if address.startswith("unix://"):
            authority = "localhost"
            name = server_hostname or ("localhost" if ssl else None)
            await loop.create_unix_connection(
                protocol, address.removeprefix("unix://"), ssl=ssl, server_hostname=name
            )
        else:
            authority = address.removeprefix("tcp://")
            host, colon, port = authority.rpartition(":")
            if not colon or not port.isdigit():
                raise ValueError(f'address "{address}" has no port')
            await loop.create_connection(
                protocol, host.strip("[]"), int(port), ssl=ssl, server_hostname=server_hostname
            )
        channel = cls(link, authority, "https" if ssl else "http")
        channel.peer = socket.peer
        channel._task = asyncio.create_task(_until(socket.gone))
        return channel

    async def unary(
        self,
        method: str,
        request: Buffer,
        *,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Call, and return the one message that comes back.

        Raises:
            RpcError: the call ended otherwise.
        """
        async with self.stream(method, metadata=metadata, timeout=timeout) as call:
            await call.send(request)
            await call.half_close()
            answer = await call.receive()
            if answer is None:
                raise RpcError(Code.INTERNAL, "the call ended without an answer")
            if await call.receive() is not None:
                raise RpcError(Code.INTERNAL, "more than one answer")
            return answer

    @asynccontextmanager
    async def stream(
        self, method: str, *, metadata: Metadata | None = None, timeout: float | None = None
    ) -> AsyncGenerator[ClientCall, None]:
        """Open a call; leaving the context ends it if it has not ended."""
        fields: Fields = [
            (b":method", b"POST"),
            (b":scheme", self._scheme),
            (b":path", method.encode()),
            (b":authority", self._authority),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"pybuild"),
            (b"grpc-accept-encoding", b"gzip"),
        ]
        if timeout is not None:
            fields.append((b"grpc-timeout", timeouts.format_s(timeout)))
        if metadata is not None:
            fields += metadata.to_fields()
        connection = self._link.connection
        began = asyncio.get_running_loop().time()
        if not connection.can_open:
            await self._place(timeout)
        try:
            stream_id = connection.open(fields)
        except StreamGone as error:
            raise self._link.failure or RpcError(Code.UNAVAILABLE, str(error)) from None
        call = self._link.flows[stream_id] = ClientCall(self._link, stream_id)
        call.start(None if timeout is None else began + timeout)
        self._link.wants_flush()
        try:
            yield call
        finally:
            call.leave()
            self._freed()

    async def close(self) -> None:
        """End all calls, and the connection."""
        self._link.connection.go_away()
        self._link.close(RpcError(Code.CANCELLED, "the channel is closed"))
        if self._task is not None:
            _, stuck = await asyncio.wait((self._task,), timeout=_LINGER_S)
            for task in stuck:
                task.cancel()
                await asyncio.wait((task,))

    async def _place(self, timeout: float | None) -> None:
        """Wait until the server takes one more call."""
        connection = self._link.connection
        try:
            async with asyncio.timeout(timeout):
                while not connection.can_open and not connection.closing:
                    place = asyncio.get_running_loop().create_future()
                    self._waiting.append(place)
                    try:
                        await place
                    except asyncio.CancelledError:
                        if place.done() and not place.cancelled():
                            self._freed()  # it was our turn: let the next one have it
                        raise
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from None

    def _freed(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return

    def _closed_by_link(self) -> None:
        self.closed.set()
        for place in self._waiting:
            if not place.done():
                place.set_result(None)

    async def _run(self, tunnel: Tunnel) -> None:
        try:
            await tunnel.run()
        finally:
            self._closed_by_link()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _link(limits: GrpcLimits | None) -> GrpcLink:
    limits = limits or GrpcLimits(http2=Http2Limits(header_bytes=_HEADER_BYTES))
    return GrpcLink(Connection(client=True, limits=limits.http2), limits)


__all__ = ["Channel", "ClientCall"]
