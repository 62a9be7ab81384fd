"""An incoming call, as its handler sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pybuild.net.grpc.link import Flow, GrpcLink
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.peer import Peer
from pybuild.net.grpc.status import Code, RpcError, to_fields
from pybuild.net.http2.errors import StreamGone
from pybuild.net.http2.events import Fields, Headers
from pybuild.net.http2.streams import Buffer

RESPONSE: Fields = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"gzip"),
]
_log = logging.getLogger(__name__)


class IncomingCall(Flow):
    """One incoming call; messages are bytes.

    Attributes:
        method: ``/package.Service/Method``.
        deadline: in the loop's time, or None.
        trailers: to be sent with the status.
    """

    def __init__(
        self, link: GrpcLink, stream_id: int, method: str, metadata: Metadata, peer: Peer
    ) -> None:
        super().__init__(link, stream_id)
        self.method = method
        self.metadata = metadata
        self.peer = peer
        self.deadline: float | None = None
        self.trailers = Metadata()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered = self._stopped = False

    async def receive(self) -> bytes | None:
        """Return the next message, or None after the client has half-closed.

        Raises:
            RpcError: the client sent what cannot be taken; let it pass.
        """
        return await self._next()

    async def receive_all(self) -> list[bytes]:
        """Return all messages that are here, at least one; none where `receive` returns None.

        Raises:
            RpcError: as `receive` does.
        """
        return await self._all()

    async def send_headers(self, metadata: Metadata | None = None) -> None:
        """Send the response's headers before there is a message; once."""
        if self._answered:
            raise RuntimeError("the headers are sent")
        self._answered = True
        try:
            fields = RESPONSE + (metadata.to_fields() if metadata else [])
            self._link.connection.send_headers(self._id, fields)
        except StreamGone:
            raise self._unheard or RpcError(Code.CANCELLED, "the call has ended") from None
        self._link.wants_flush()

    async def send(self, message: Buffer) -> None:
        """Send a message, with the headers if they are not sent; waits while there is no room.

        *message* belongs to the call from now on and must not change.

        Raises:
            RpcError: the call has ended; let it pass.
        """
        if not self._answered:
            await self.send_headers()
        await self._put(message)

    # What the server does with it.

    def start(self, handler: Handler, deadline: float | None) -> asyncio.Task[None]:
        """Run *handler*, and end the call with what comes of it."""
        loop = asyncio.get_running_loop()
        self.deadline = deadline
        if deadline is not None:
            self._timer = loop.call_at(deadline, self._expired)
        self._task = loop.create_task(self._run(handler), name=f"rpc {self.method}")
        # Not in the task, which never runs if it is cancelled at once.
        self._task.add_done_callback(self._leave)
        return self._task

    def on_headers(self, event: Headers) -> None:
        """Trailers of a request say nothing, but end it."""
        if self._over is None and event.end:
            try:
                self._inbox.end()
            except RpcError as error:
                self.refuse(error)
                return
            self._wake()

    def on_over(self, error: RpcError) -> None:
        """The client went away, or cancelled: so does the handler."""
        self._stop(error)

    def refuse(self, error: RpcError) -> None:
        """Answer with *error*, and stop the handler."""
        self.finish(error)
        self._stop(error)

    def finish(self, error: RpcError | None) -> None:
        """Send the status, if there is still somebody to hear it."""
        more = self.trailers.to_fields()
        fields = to_fields(error, self._link.connection.header_room(more)) + more
        if not self._answered:
            self._answered = True
            fields = RESPONSE + fields
        try:
            self._link.connection.answer(self._id, fields, at_once=error is not None)
        except StreamGone:
            return
        self._link.wants_flush()

    def _expired(self) -> None:
        self.refuse(RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))

    def _stop(self, error: RpcError) -> None:
        self._end(error)
        if self._task is not None and not self._stopped:
            self._stopped = True
            self._task.cancel()

    async def _run(self, handler: Handler) -> None:
        error: RpcError | None = None
        try:
            await handler(self)
        except RpcError as raised:
            error = raised
        except asyncio.CancelledError:
            error = self._over or RpcError(Code.CANCELLED, "the server is shutting down")
        except Exception:  # noqa: BLE001  one call's bug must not end the others
            _log.exception("%s failed", self.method)
            error = RpcError(Code.INTERNAL, "internal error")
        self._stopped = True
        if self._over is None:
            self.finish(error)

    def _leave(self, task: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end(RpcError(Code.CANCELLED, "the call has ended"))  # for tasks that use it still
        self._link.flows.pop(self._id, None)


Handler: TypeAlias = Callable[[IncomingCall], Awaitable[None]]
"""Returns: OK. Raises `RpcError`: that. Its task is cancelled when nobody waits any more."""


def unary(handler: Callable[[bytes, IncomingCall], Awaitable[Buffer]]) -> Handler:
    """Make a handler of a function from one message to one message."""

    async def handle(call: IncomingCall) -> None:
        request = await call.receive()
        if request is None:
            raise RpcError(Code.INTERNAL, "the call ended without a request")
        if await call.receive() is not None:
            raise RpcError(Code.INTERNAL, "more than one request")
        await call.send(await handler(request, call))

    return handle
