"""Sockets: an asyncio protocol that feeds a link."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import cast

from pybuild.net.grpc.link import GrpcLink
from pybuild.net.grpc.peer import Peer, peer_of
from pybuild.net.grpc.status import Code, RpcError
from pybuild.net.http2.frames import PREFACE
from pybuild.net.http2.streams import Buffer

_READ_BYTES = 256 << 10
_LINGER_S = 5.0  # for the other side to read the last frames
_HTTP_1 = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 32\r\n\r\nthis port speaks gRPC, on HTTP/2"
)


class SocketProtocol(asyncio.BufferedProtocol):
    """One socket; *make_link* is called when it is connected.

    Args:
        preface_s: the time for the other side to begin; None for clients.
    """

    def __init__(self, make_link: Callable[[Peer], GrpcLink], *, preface_s: float | None) -> None:
        self._make_link = make_link
        self._preface_s = preface_s
        self._greeting = b"" if preface_s is not None else None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.link: GrpcLink | None = None
        self.peer = Peer()
        self.begun = asyncio.Event()  # or gone before it began
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=512 << 10, low=128 << 10)
        _watch(transport.get_extra_info("socket"))
        self.peer = peer_of(transport)
        self.link = self._make_link(self.peer)
        if self._preface_s is not None:
            self.link.hold()  # until it is known what the other side speaks
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._preface_s, self._late)
        self.link.attach(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer; what is read is used up before the next read of any socket."""
        return _buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        assert self.link is not None
        if self._greeting is None:
            self.link.received(_buffer()[:nbytes])
        else:
            self._greet(bytes(_buffer()[:nbytes]))

    def eof_received(self) -> bool:
        """Close: who hangs up wants no answers."""
        return False

    def pause_writing(self) -> None:
        """The kernel takes nothing more."""
        if self.link is not None:
            self.link.hold()

    def resume_writing(self) -> None:
        """The kernel takes more."""
        if self.link is not None:
            self.link.release()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all calls."""
        self._stop_timer()
        self.begun.set()
        self.gone.set()
        if self.link is not None:
            why = f": {exc}" if exc else ""
            self.link.close(RpcError(Code.UNAVAILABLE, f"connection closed{why}"))

    def writelines(self, chunks: list[Buffer], /) -> None:
        """Write; what comes too late is dropped here.

        From 3.12 on asyncio's own transports would begin to watch a descriptor that is about to be
        closed, and the next connection that gets its number is never told of anything.
        """
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.writelines(chunks)

    def close(self) -> None:
        """Write what is left and close; who does not read it is not waited for."""
        if self._transport is None or self.gone.is_set():
            return
        self._stop_timer()
        self._transport.close()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_LINGER_S, self._transport.abort)

    @property
    def protocol(self) -> SocketProtocol:
        """Itself, for `Doorway`."""
        return self

    def idle_since(self) -> float | None:
        """Return since when there has been no call, in the loop's time; None while there is one."""
        link = self.link
        return None if not self.begun.is_set() or link is None or link.flows else link.used_at

    def leave(self) -> None:
        """Send GOAWAY, and close."""
        if self.link is not None:
            self.link.connection.go_away()
            self.link.close(RpcError(Code.UNAVAILABLE, "the connection was idle"))

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def _greet(self, data: bytes) -> None:
        """Wait for the preface, so that what is no HTTP/2 gets an answer that it can read."""
        assert self._transport is not None and self.link is not None
        assert self._greeting is not None
        greeting = self._greeting = self._greeting + data
        if not PREFACE.startswith(greeting[: len(PREFACE)]):
            self._stop_timer()
            if greeting[:1].isalpha():
                self._transport.write(_HTTP_1)
            self.close()
        elif len(greeting) >= len(PREFACE):
            self._stop_timer()
            self._greeting = None
            self.begun.set()
            self.link.release()
            self.link.received(greeting)

    def _late(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Shared(threading.local):
    """One buffer for all sockets of a thread's loop: a silent connection needs none."""

    view: memoryview | None = None


_shared = _Shared()


def _buffer() -> memoryview:
    view = _shared.view
    if view is None:
        view = _shared.view = memoryview(bytearray(_READ_BYTES))
    return view


def _watch(own: socket.socket | None) -> None:
    """Let the kernel notice a TCP peer that vanished: its calls hold builds."""
    if own is not None and own.family in (socket.AF_INET, socket.AF_INET6):
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def speak_h2(context: ssl.SSLContext) -> ssl.SSLContext:
    """Offer HTTP/2, as clients of gRPC demand; returns *context*."""
    context.set_alpn_protocols(["h2"])
    return context
