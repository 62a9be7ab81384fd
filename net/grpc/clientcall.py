"""An outgoing call, as its caller sees it."""

from __future__ import annotations

import asyncio

from pybuild.net.grpc.link import Flow, GrpcLink
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError, from_fields, of_http
from pybuild.net.http2.errors import ErrorCode, StreamGone
from pybuild.net.http2.events import Data, Headers
from pybuild.net.http2.streams import Buffer

_ENDED = "the server ended the call before it had everything"
_EARLY_S = 0.05


class ClientCall(Flow):
    """One outgoing call; messages are bytes.

    Attributes:
        status: the error at its end; None before that, and after success.
        trailers: the metadata that came with the status.
    """

    def __init__(self, link: GrpcLink, stream_id: int) -> None:
        super().__init__(link, stream_id)
        self.status: RpcError | None = None
        self.trailers = Metadata()
        self._headers: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        self._done = False
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, *messages: Buffer) -> None:
        """Send one or more messages; waits while there is no room.

        They belong to the call from now on and must not change.

        Raises:
            RpcError: the call has ended; CANCELLED if it had ended well, without reading on.
        """
        if self._unheard is not None:
            raise self._unheard
        await self._put(*messages)

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

    async def receive_all(self) -> list[bytes]:
        """Return all messages that are here, at least one; none where `receive` returns None.

        Raises:
            RpcError: as `receive` does.
        """
        return await self._all()

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
        now = asyncio.get_running_loop().time()
        if error.code is Code.CANCELLED and self._timer and self._timer.when() - now < _EARLY_S:
            # A server that keeps our deadline may be a little earlier than our clock.
            error = RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
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

    def start(self, deadline: float | None) -> None:
        """Begin to count down."""
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expired)

    def leave(self) -> None:
        """Nobody waits any more: end the call if it has not ended."""
        self._link.connection.reset(self._id, ErrorCode.CANCEL)
        self._link.wants_flush()
        self._stop_timer()
        self._headers.cancel()
        self._end(RpcError(Code.CANCELLED, "the call has ended"))  # for tasks that use it still
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
            self._unheard = RpcError(Code.CANCELLED, _ENDED)
            self._link.connection.reset(self._id)  # if we have not ended, nobody hears us
            self._wake()
            self.on_drained()
        else:
            self._end(status)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
