"""Tunnels: a connection inside any stream of bytes, such as the messages of another call."""

from __future__ import annotations

import asyncio
from typing import Protocol

from pybuild.net.grpc.link import GrpcLink
from pybuild.net.grpc.status import Code, RpcError
from pybuild.net.http2.streams import Buffer

_MOST_WRITE = 1 << 20


class ByteStream(Protocol):
    """Both directions of a stream of bytes."""

    async def read(self) -> bytes:
        """Return some bytes, or none at the end."""
        ...

    async def write(self, data: bytes, /) -> None:
        """Send all of *data*; waits while there is no room."""
        ...

    def close(self) -> None:
        """End both directions."""
        ...


class Tunnel:
    """Runs a link over a byte stream: one task reads, another writes."""

    def __init__(self, link: GrpcLink, stream: ByteStream) -> None:
        self._link = link
        self._stream = stream
        self._chunks: list[Buffer] = []
        self._more = asyncio.Event()
        self._closing = False

    async def run(self) -> None:
        """Work until one side ends the connection; then everything is closed."""
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read())
        error = RpcError(Code.UNAVAILABLE, "connection closed")
        try:
            self._link.attach(self)
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in (reader, writer):
                if task.done() and not task.cancelled() and (failure := task.exception()):
                    error = RpcError(Code.UNAVAILABLE, f"connection closed: {failure}")
        finally:
            self._link.close(error)
            self._stream.close()
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    def writelines(self, chunks: list[Buffer], /) -> None:
        """Take what the writing task is to write."""
        self._chunks += chunks
        self._link.hold()
        self._more.set()

    def close(self) -> None:
        """Close when all is written."""
        self._closing = True
        self._more.set()

    async def _read(self) -> None:
        while data := await self._stream.read():
            self._link.received(data)

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._chunks:
                chunks, self._chunks = self._chunks, []
                data = b"".join(chunks)
                for at in range(0, len(data), _MOST_WRITE):
                    await self._stream.write(data[at : at + _MOST_WRITE])
            if self._closing:
                return
            self._link.release()
