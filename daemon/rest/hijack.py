"""A connection that becomes a raw stream: attach, exec, gRPC [ENG-30…34]."""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_HEAD_S = 1.0
"""A client on a busy machine takes long until it reads: 50 ms were too few, and it lost its first output."""
_LOOKS_S = 1.0
_PIECE = 1 << 15
_HEADER = struct.Struct(">BxxxL")
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


class Taken(web.StreamResponse):
    """The answer of a request whose connection was taken over: there is nothing more to send."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        self._keep_alive = False
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None

    @property
    def prepared(self) -> bool:
        return True


def cut_off(request: web.BaseRequest) -> web.StreamResponse:
    """End the connection of an answer that cannot be ended well: its client sees that it is not whole."""
    if request.transport is not None:
        request.transport.abort()
    return Taken()


class ClientStream(Protocol):
    """A client's end of the streams of a process."""

    async def send(self, data: bytes) -> None:
        """Send; waits where the client does not read.

        Raises:
            ConnectionError: it has gone.
        """
        ...

    async def read(self) -> bytes:
        """Return some of what the client sends; b"": it sends no more."""
        ...

    async def gone(self) -> None:
        """Return when the client has gone altogether, which a half-close is not."""
        ...

    async def close(self) -> None:
        """Send what is left, and close."""
        ...


class _RawProtocol(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, handler: RequestHandler) -> None:
        super().__init__(reader)
        self._handler = handler
        self.gone = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()
        self._handler.connection_lost(exc)


class RawStream:
    """`ClientStream` of a connection that was taken over from HTTP.

    Attributes:
        reader: what the client sends, to its half-close.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self._transport = transport
        self.reader = asyncio.StreamReader()
        self._protocol = _RawProtocol(self.reader, request.protocol)
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)
        self._writer = asyncio.StreamWriter(
            transport, self._protocol, self.reader, asyncio.get_running_loop()
        )

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read(self) -> bytes:
        return await self.reader.read(_PIECE)

    async def send_head(self, data: bytes) -> None:
        """Send a head alone: what comes in one piece with it is lost to some clients [ENG-33]."""
        await self.send(data)
        own = self._transport.get_extra_info("socket")
        loop = asyncio.get_running_loop()
        until = loop.time() + _HEAD_S
        while own is not None and loop.time() < until:
            try:
                waiting = fcntl.ioctl(own.fileno(), termios.TIOCOUTQ, bytes(4))
            except OSError:
                return
            if not any(waiting):
                return
            await asyncio.sleep(0.001)

    async def gone(self) -> None:
        own = self._transport.get_extra_info("socket")
        poller = select.poll()
        poller.register(own.fileno(), 0)
        while not self._protocol.gone.is_set():
            if any(events & (select.POLLHUP | select.POLLERR) for _, events in poller.poll(0)):
                return
            try:
                async with asyncio.timeout(_LOOKS_S):
                    await self._protocol.gone.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            pass
        self._writer.close()

    def end(self) -> None:
        """Close when what was sent is on its way."""
        self._writer.close()


async def hijack(request: web.BaseRequest, kind: str, signature: Mapping[str, str]) -> RawStream:
    """Take the connection over, and say so: 101 to whoever asks for an upgrade, else 200."""
    stream = RawStream(request)
    upgrades = request.headers.get("Upgrade", "").lower() == "tcp"
    lines = ["HTTP/1.1 101 UPGRADED" if upgrades else "HTTP/1.1 200 OK", f"Content-Type: {kind}"]
    lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrades else []
    lines += [f"{name}: {value}" for name, value in signature.items()]
    await stream.send_head("\r\n".join([*lines, "", ""]).encode())
    return stream


async def upgraded(request: web.BaseRequest, protocol: str) -> RawStream:
    """Take the connection over for another protocol, and say so."""
    stream = RawStream(request)
    head = f"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    await stream.send(head.encode())
    return stream


def frame(number: int, data: bytes) -> bytes:
    """Return a piece of output with its stream's number in front [ENG-32]."""
    return _HEADER.pack(number, len(data)) + data
