"""The gRPC server: any number of connections, one table of handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from weakref import WeakValueDictionary

from pybuild.net.doorway import Admission
from pybuild.net.grpc import timeouts
from pybuild.net.grpc.calls import RESPONSE, Handler, IncomingCall
from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.link import Backlog, GrpcLink
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.peer import Peer
from pybuild.net.grpc.sockets import SocketProtocol
from pybuild.net.grpc.status import Code, RpcError, to_fields
from pybuild.net.grpc.tunnel import ByteStream, Tunnel
from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import ErrorCode, StreamGone
from pybuild.net.http2.events import Fields, Headers


class GrpcServer:
    """Serves *handlers*, by ``/package.Service/Method``, on the connections it is given."""

    def __init__(
        self, handlers: Mapping[str, Handler], *, limits: GrpcLimits | None = None
    ) -> None:
        self._handlers = dict(handlers)
        self._limits = limits or GrpcLimits()
        self._connections: dict[GrpcLink, ServerConnection] = {}
        self._backlogs: WeakValueDictionary[str, Backlog] = WeakValueDictionary()
        self._closing = False

    @property
    def admission(self) -> Admission:
        """The numbers of connections that a door admits."""
        limits = self._limits
        return Admission(
            connections=limits.connections,
            machine=limits.peer_connections,
            waiting=limits.waiting,
            begin_s=limits.preface_s,
            idle_s=limits.idle_s,
        )

    def protocol(self) -> SocketProtocol:
        """Return the protocol of a new socket, for `Doorway`, ``loop.create_server`` and its like."""
        return SocketProtocol(self.link, preface_s=self._limits.preface_s)

    async def serve_stream(self, stream: ByteStream, peer: Peer | None = None) -> None:
        """Serve one connection over a byte stream until it ends."""
        link = self.link(peer)
        await Tunnel(link, stream).run()

    async def close(self, grace_s: float) -> None:
        """Take no more calls; after *grace_s*, or when all have ended, close every connection."""
        self._closing = True
        for link in list(self._connections):
            link.connection.go_away()
            link.flush()
        tasks = {task for each in self._connections.values() for task in each.tasks}
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for link in list(self._connections):
            link.close(RpcError(Code.UNAVAILABLE, "the server is shutting down"))
        if tasks:
            await asyncio.wait(tasks)

    def link(self, peer: Peer | None = None) -> GrpcLink:
        """Return the link of a new connection, for a transport to feed."""
        peer = peer or Peer()
        connection = ServerConnection(self._handlers, self._limits, peer)
        backlog = self._backlogs.setdefault(peer.owner, Backlog())
        link = GrpcLink(
            Connection(client=False, limits=self._limits.http2),
            self._limits,
            on_open=connection.opened,
            on_closed=lambda: self._closed(link),
            backlog=backlog,
        )
        connection.link = link
        self._connections[link] = connection
        if self._closing:
            link.connection.go_away()
        return link

    def _closed(self, link: GrpcLink) -> None:
        self._connections.pop(link, None)


class ServerConnection:
    """The calls of one connection."""

    link: GrpcLink

    def __init__(self, handlers: Mapping[str, Handler], limits: GrpcLimits, peer: Peer) -> None:
        self._handlers = handlers
        self._limits = limits
        self._peer = peer
        self.tasks: set[asyncio.Task[None]] = set()

    def opened(self, event: Headers) -> None:
        """Start the call that a client has opened, or answer why not."""
        connection = self.link.connection
        if len(self.tasks) >= 2 * self._limits.http2.streams:
            # Cancelled calls count until their handlers have ended (rapid reset).
            connection.reset(event.stream_id, ErrorCode.REFUSED_STREAM)
            return
        fields = dict(event.fields)
        if fields[b":method"] != b"POST":
            self._answer(event.stream_id, [(b":status", b"405"), (b"allow", b"POST")])
        elif not _is_grpc(fields.get(b"content-type", b"")):
            self._answer(event.stream_id, [(b":status", b"415")])
        else:
            try:
                self._start(event, fields)
            except RpcError as error:
                self._answer(event.stream_id, RESPONSE + to_fields(error, 4096))

    def _start(self, event: Headers, fields: dict[bytes, bytes]) -> None:
        if self._peer.refusal:
            raise RpcError(Code.UNAUTHENTICATED, self._peer.refusal)
        method = fields[b":path"].decode("latin-1")
        handler = self._handlers.get(method)
        if handler is None:
            raise RpcError(Code.UNIMPLEMENTED, _unknown(method, self._handlers))
        deadline = None
        try:
            metadata = Metadata.from_fields(event.fields)
            if b"grpc-timeout" in fields:
                timeout = timeouts.parse(fields[b"grpc-timeout"])
                deadline = asyncio.get_running_loop().time() + timeout
        except ValueError as error:
            raise RpcError(Code.INTERNAL, str(error)) from error
        call = IncomingCall(self.link, event.stream_id, method, metadata, self._peer)
        call.set_encoding(fields.get(b"grpc-encoding", b""))
        self.link.flows[event.stream_id] = call
        if event.end:
            call.on_headers(event)
        task = call.start(handler, deadline)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        self._used()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._used()

    def _used(self) -> None:
        self.link.used_at = asyncio.get_running_loop().time()

    def _answer(self, stream_id: int, fields: Fields) -> None:
        # It may be over by now: what came with the request may have ended it again.
        with suppress(StreamGone):
            self.link.connection.answer(stream_id, fields)


def _is_grpc(content_type: bytes) -> bool:
    kind = b"application/grpc"
    return content_type.startswith(kind) and content_type[len(kind) : len(kind) + 1] in b"+;"


def _unknown(method: str, handlers: Mapping[str, Handler]) -> str:
    service, _, name = method.removeprefix("/").rpartition("/")
    if any(known.startswith(f"/{service}/") for known in handlers):
        return f"unknown method {name} for service {service}"
    return f"unknown service {service}"
