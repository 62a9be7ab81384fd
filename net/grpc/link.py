"""A connection and its calls on an event loop: who waits for what, and when bytes are written."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.messages import MESSAGE_COST, Inbox, prefix
from pybuild.net.grpc.status import Code, RpcError, of_reset
from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import StreamGone
from pybuild.net.http2.events import ConnectionFailed, Data, Event, Headers, Reset
from pybuild.net.http2.streams import Buffer


class ByteSink(Protocol):
    """The receiver of a link's bytes."""

    def writelines(self, chunks: list[Buffer], /) -> None:
        """Write; may set `GrpcLink.held` through `GrpcLink.hold`."""
        ...

    def close(self) -> None:
        """Write what is left, then close."""
        ...


class Flow(ABC):
    """The messages of one call, both ways; server and client build their calls on it."""

    def __init__(self, link: GrpcLink, stream_id: int) -> None:
        self._link = link
        self._id = stream_id
        self._inbox = Inbox(link.limits.message_bytes)
        self._ahead = 0  # bytes of an incomplete message whose window was given back
        self._over: RpcError | None = None
        self._unheard: RpcError | None = None  # why nothing can be sent any more
        self._arrival: asyncio.Future[None] | None = None
        self._rooms: list[asyncio.Future[None]] = []

    def set_encoding(self, encoding: bytes) -> None:
        """Take the peer's ``grpc-encoding``."""
        self._inbox.encoding = encoding

    # What the link reports.

    @abstractmethod
    def on_headers(self, event: Headers) -> None:
        """Take a header section."""

    def on_data(self, event: Data) -> None:
        """Take a piece of the body."""
        size = event.size
        inbox = self._inbox
        if self._over is not None:
            self._link.connection.consumed(self._id, size)
            return
        before = inbox.cost
        try:
            try:
                inbox.feed(event.pieces, size)
            finally:
                self._link.backlog.size += inbox.cost - before
            if event.end:
                inbox.end()
            if self._link.backlog.size > self._link.limits.unread_bytes:
                raise RpcError(Code.RESOURCE_EXHAUSTED, "too much waits to be read")
        except RpcError as error:
            self.refuse(error)
            return
        if self._arrival is not None:
            if inbox.messages or inbox.ended:
                self._wake()
            else:
                self._give_back_partial()

    @abstractmethod
    def on_over(self, error: RpcError) -> None:
        """The stream has ended early, or the connection is lost."""

    def on_drained(self) -> None:
        """All that was sent has left the queue."""
        for room in self._rooms:
            if not room.done():
                room.set_result(None)

    @abstractmethod
    def refuse(self, error: RpcError) -> None:
        """The peer sent what cannot be taken."""

    # For the calls.

    async def _next(self) -> bytes | None:
        """Return the next message, or None after the last one.

        Raises:
            RpcError: the call ended otherwise.
        """
        if not await self._arrived():
            return None
        inbox = self._inbox
        message, size = inbox.messages.popleft()
        inbox.size -= size
        self._link.backlog.size -= size + MESSAGE_COST
        self._consumed(size)
        return message

    async def _all(self) -> list[bytes]:
        """Return all messages that are here, at least one; none after the last one.

        Raises:
            RpcError: the call ended otherwise.
        """
        if not await self._arrived():
            return []
        inbox = self._inbox
        taken = list(inbox.messages)
        inbox.messages.clear()
        size = sum([size for _, size in taken])
        inbox.size -= size
        self._link.backlog.size -= size + MESSAGE_COST * len(taken)
        self._consumed(size)
        return [message for message, _ in taken]

    async def _arrived(self) -> bool:
        """Wait for a message; tell whether there is one, or the call has ended well."""
        inbox = self._inbox
        while not inbox.messages:
            if self._over is not None:
                raise self._over
            if inbox.ended:
                return False
            if self._arrival is not None:
                raise RuntimeError("two tasks receive on one call")
            self._give_back_partial()
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return True

    async def _put(self, *messages: Buffer) -> None:
        """Send messages, and return when all of them have gone to the transport.

        Raises:
            RpcError: the call has ended.
        """
        pieces: list[Buffer] = []
        for message in messages:
            pieces += (prefix(len(message)), message)
        if len(messages) > 1:
            pieces = [b"".join(pieces)]
        try:
            queued = self._link.connection.send_data(self._id, *pieces)
        except StreamGone:
            raise self._unheard or RpcError(Code.CANCELLED, "the call has ended") from None
        self._link.wants_flush()
        if queued:
            await self._drained()

    async def _drained(self) -> None:
        while self._unheard is None and self._link.connection.queued(self._id):
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._rooms.append(room)
            try:
                await room
            finally:
                self._rooms.remove(room)
        if self._unheard is not None:
            raise self._unheard

    def _end(self, error: RpcError) -> None:
        """Make everybody who waits see the end, and give back what was not read."""
        if self._over is None:
            self._over = self._unheard = error
        self._discard()
        self._wake()
        self.on_drained()

    def _discard(self) -> None:
        inbox = self._inbox
        self._link.backlog.size -= inbox.cost
        inbox.messages.clear()
        unread, inbox.size = inbox.size - self._ahead, 0
        self._ahead = 0
        if unread:
            self._link.connection.consumed(self._id, unread)

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _give_back_partial(self) -> None:
        """Make room for the rest of the message that a task waits for, whatever its size."""
        partial = self._inbox.partial
        if partial > self._ahead:
            more, self._ahead = partial - self._ahead, partial
            self._link.connection.consumed(self._id, more)
            self._link.wants_flush()

    def _consumed(self, size: int) -> None:
        ahead = min(self._ahead, size)
        self._ahead -= ahead
        if size > ahead:
            self._link.connection.consumed(self._id, size - ahead)
            self._link.wants_flush()


class Backlog:
    """About how much memory messages take that nobody has read."""

    __slots__ = ("__weakref__", "size")

    def __init__(self) -> None:
        self.size = 0


class GrpcLink:
    """Feeds a `Connection`, hands its events to the calls, and writes what it has to say.

    Attributes:
        flows: the calls by stream.
        backlog: the bytes of messages that are here and not read; connections may share one.
        used_at: when a call began or ended, in the loop's time.
        failure: why the connection was closed.
    """

    def __init__(
        self,
        connection: Connection,
        limits: GrpcLimits,
        *,
        on_open: Callable[[Headers], None] | None = None,
        on_closed: Callable[[], None] | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        self.connection = connection
        self.limits = limits
        self.flows: dict[int, Flow] = {}
        self.backlog = backlog or Backlog()
        self.is_cut = False
        self.failure: RpcError | None = None
        self._on_open = on_open
        self.on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self.used_at = self._loop.time()
        self._sink: ByteSink | None = None
        self._flush_at: asyncio.Handle | None = None

    def attach(self, sink: ByteSink) -> None:
        """Begin to write."""
        self._sink = sink
        self.flush()

    def received(self, data: bytes | bytearray | memoryview) -> None:
        """Take the peer's bytes."""
        connection = self.connection
        flows = self.flows
        for event in connection.receive(data):
            if type(event) is Data:
                flow = flows.get(event.stream_id)
                if flow is not None:
                    flow.on_data(event)
                else:
                    connection.consumed(event.stream_id, event.size)
            else:
                self._rare(event)
        self.flush()

    def _rare(self, event: Event) -> None:
        match event:
            case Headers():
                flow = self.flows.get(event.stream_id)
                if flow is not None:
                    flow.on_headers(event)
                elif self._on_open is not None and not event.trailers:
                    self._on_open(event)
            case Reset():
                flow = self.flows.get(event.stream_id)
                if flow is not None:
                    flow.on_over(of_reset(event.code, event.message))
            case ConnectionFailed():
                self.flush()
                self.close(RpcError(Code.UNAVAILABLE, f"connection failed: {event.message}"))
            case _:
                pass

    def wants_flush(self) -> None:
        """Write at the end of this turn of the loop, together with what else comes up."""
        if self._flush_at is None:
            self._flush_at = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what can be written now."""
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        out = self.connection.out
        while self._sink is not None and not out.held:
            chunks = out.output()
            if not chunks:
                break
            self._sink.writelines(chunks)
        while out.drained:
            flow = self.flows.get(out.drained.pop())
            if flow is not None:
                flow.on_drained()

    def hold(self) -> None:
        """The transport is full."""
        self.connection.out.held = True

    def release(self) -> None:
        """The transport takes more."""
        self.connection.out.held = False
        self.flush()

    def close(self, error: RpcError) -> None:
        """End all calls with *error*, write what is left, and close the transport."""
        if self.is_cut:
            return
        self.is_cut = True
        self.failure = error
        self.connection.closing = True
        for flow in list(self.flows.values()):
            flow.on_over(error)
        if self._sink is not None:
            self.connection.out.held = False
            self.flush()
            self._sink.close()
            self._sink = None
        if self.on_closed is not None:
            self.on_closed()
