"""The client side: calls over one connection."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pybuild.daemon.grpc import timeouts
from pybuild.daemon.grpc.limits import Limits
from pybuild.daemon.grpc.link import Flow, Link
from pybuild.daemon.grpc.metadata import Metadata
from pybuild.daemon.grpc.sockets import SocketProtocol
from pybuild.daemon.grpc.status import Code, RpcError, from_fields, of_http
from pybuild.daemon.grpc.tunnel import ByteStream, Tunnel
from pybuild.daemon.http2.connection import Connection
from pybuild.daemon.http2.errors import ErrorCode, StreamGone
from pybuild.daemon.http2.events import Data, Fields, Headers
from pybuild.daemon.http2.streams import Buffer

_ENDED = "the server ended the call before it had everything"


class ClientCall(Flow):
    """One outgoing call; messages are bytes.

    Attributes:
        status: how it ended, None while it has not ended and when it ended well.
        trailers: what came with the status.
    """

    def __init__(self, link: Link, stream_id: int) -> None:
        super().__init__(link, stream_id)
        self.status: RpcError | None = None
        self.trailers = Metadata()
        self._headers: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        self._done = False
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, message: Buffer) -> None:
        """Send a message; waits while there is no room.

        *message* belongs to the call from now on and must not change.

        Raises:
            RpcError: the call has ended; CANCELLED if it had ended well, without reading on.
        """
        if self._done:
            raise self.status or RpcError(Code.CANCELLED, _ENDED)
        await self._put(message)

    async def half_close(self) -> None:
        """Send no more; nothing happens if the call has ended."""
        try:
            self._link.connection.send_data(self._id, end=True)
        except StreamGone:
            return
        self._link.wants_flush()

    async def receive(self) -> bytes | None:
        """Return the next message, or None when the call has ended well.

        Raises:
            RpcError: it ended otherwise.
        """
        return await self._next()

    async def headers(self) -> Metadata:
        """Return the response's headers, as soon as they come.

        Raises:
            RpcError: the call ended without.
        """
        return await asyncio.shield(self._headers)

    # What the link reports.

    def on_headers(self, event: Headers) -> None:
        """Take the response's headers, its trailers, or both at once."""
        if self._done:
            return
        fields = dict(event.fields)
        try:
            metadata = Metadata.from_fields(event.fields)
            if not event.trailers:
                self.set_encoding(fields.get(b"grpc-encoding", b""))
                if not event.end:
                    if fields[b":status"] != b"200":
                        raise of_http(int(fields[b":status"]))
                    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
                        raise RpcError(Code.UNKNOWN, "the answer does not come from gRPC")
                    self._headers.set_result(metadata)
                    return
            self.trailers = metadata
            try:
                status = from_fields(event.fields)
            except LookupError:
                if fields.get(b":status", b"200") != b"200":
                    raise of_http(int(fields[b":status"])) from None
                raise RpcError(Code.INTERNAL, "the server sent no grpc-status") from None
            if status is None:
                self._inbox.end()
        except ValueError as error:
            self.refuse(RpcError(Code.INTERNAL, f"metadata: {error}"))
        except RpcError as error:
            self.refuse(error)
        else:
            self._finish(status)

    def on_data(self, event: Data) -> None:
        """Take a piece of the body, which must not be the end."""
        super().on_data(event)
        if event.end and not self._done:
            self.refuse(RpcError(Code.INTERNAL, "the server sent no trailers"))

    def on_over(self, error: RpcError) -> None:
        """The stream was reset, or the connection is lost; no matter if the status is known."""
        if not self._done:
            self._finish(error)
        else:
            self.on_drained()

    def refuse(self, error: RpcError) -> None:
        """Give up."""
        self._link.connection.reset(self._id, ErrorCode.CANCEL)
        self._link.wants_flush()
        if not self._done:
            self._finish(error)

    def start(self, timeout: float | None) -> None:
        """Begin to count down."""
        if timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(max(timeout, 0), self._expired)

    def leave(self) -> None:
        """Nobody waits any more: end the call if it has not ended."""
        self._link.connection.reset(self._id, ErrorCode.CANCEL)
        self._link.wants_flush()
        self._stop_timer()
        self._headers.cancel()
        self._discard()
        self._link.flows.pop(self._id, None)

    def _expired(self) -> None:
        self.refuse(RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))

    def _finish(self, status: RpcError | None) -> None:
        self._done = True
        self.status = status
        self._stop_timer()
        if not self._headers.done():
            if status is None:
                self._headers.set_result(self.trailers)
            else:
                self._headers.set_exception(status)
                self._headers.exception()  # it may interest nobody
        if status is None:
            self._wake()
            self.on_drained()
        else:
            self._end(status)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Channel:
    """One connection to a server, for any number of calls."""

    def __init__(self, link: Link, authority: str, scheme: str = "http") -> None:
        self._link = link
        self._authority = authority.encode()
        self._scheme = scheme.encode()
        self._task: asyncio.Task[None] | None = None
        self._places = asyncio.Condition()
        self.closed = asyncio.Event()

    @classmethod
    async def over(
        cls, stream: ByteStream, *, authority: str = "localhost", limits: Limits | None = None
    ) -> Channel:
        """Begin a connection over a byte stream."""
        channel = cls(_link(limits), authority)
        channel._task = asyncio.create_task(channel._run(Tunnel(channel._link, stream)))
        return channel

    @classmethod
    async def connect(
        cls,
        address: str,
        *,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
        limits: Limits | None = None,
    ) -> Channel:
        """Connect to ``unix://path``, ``tcp://host:port`` or ``host:port``.

        Raises:
            OSError: nobody answers there.
            ValueError: *address* is none.
        """
        loop = asyncio.get_running_loop()
        link = _link(limits)

        def protocol() -> SocketProtocol:
            return SocketProtocol(lambda _: link, preface_s=None)

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
        link.on_closed = channel.closed.set
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
    ) -> AsyncIterator[ClientCall]:
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
        try:
            stream_id = connection.open(fields)
        except StreamGone as error:
            raise RpcError(Code.UNAVAILABLE, str(error)) from None
        call = self._link.flows[stream_id] = ClientCall(self._link, stream_id)
        call.start(timeout)
        self._link.wants_flush()
        try:
            yield call
        finally:
            call.leave()

    async def close(self) -> None:
        """End all calls, and the connection."""
        self._link.connection.go_away()
        self._link.close(RpcError(Code.CANCELLED, "the channel is closed"))
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run(self, tunnel: Tunnel) -> None:
        try:
            await tunnel.run()
        finally:
            self.closed.set()


def _link(limits: Limits | None) -> Link:
    limits = limits or Limits()
    return Link(Connection(client=True, limits=limits.http2), limits)
