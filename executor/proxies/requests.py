"""Requests to a proxy, read from a stream and framed anew [RFC 9112]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import field

from pybuild.model.dataclass import dataclass

MOST_HEAD_BYTES = 64 << 10
_MOST_LINE = 4096  # of a chunk's size, or a trailer
_PIECE = 64 << 10
_CHUNKED = -1
# Of one connection alone, or about the way and not the thing [RFC 9110, 7.6.1].
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection")
    + ("te", "trailer", "transfer-encoding", "upgrade")
)
# What the proxy says itself, of the URL and of the body as it hands it on.
_OURS = frozenset(("host", "content-length", "expect", "accept-encoding"))
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class BadRequest(Exception):
    """A request that makes no sense, or could mean two things."""


@dataclass(slots=True)
class ProxyRequest:
    """The head of a request.

    Attributes:
        target: as it stands in the first line.
        length: of its body, in bytes; -1: it is chunked.
        keeps: another request may follow.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    length: int
    keeps: bool
    is_old: bool = False
    waits: bool = False
    is_read: bool = field(default=False, init=False)

    def header(self, name: str) -> str:
        """Return the header *name*, lower case; the first of several."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def forwarded(self) -> list[str]:
        """Return the header lines that go on to the server."""
        own = {one.strip().lower() for one in self.header("connection").split(",")}
        return [
            f"{name}: {value}"
            for name, value in self.headers
            if name.lower() not in HOP_BY_HOP | _OURS | own
        ]

    async def body(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> AsyncGenerator[bytes]:
        """Yield the body as it goes on: in chunks if it came so."""
        if self.waits:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.length != _CHUNKED:
            left = self.length
            while left:
                data = await reader.read(min(left, _PIECE))
                if not data:
                    raise ConnectionResetError
                left -= len(data)
                yield data
        else:
            while size := await _chunk_size(reader):
                yield b"%x\r\n" % size
                while size:
                    data = await reader.read(min(size, _PIECE))
                    if not data:
                        raise ConnectionResetError
                    size -= len(data)
                    yield data
                if await reader.readexactly(2) != b"\r\n":
                    raise BadRequest("a chunk is longer than it says")
                yield b"\r\n"
            while (await _line(reader)).strip():
                pass  # trailers go no further
            yield b"0\r\n\r\n"
        self.is_read = True


async def read_request(reader: asyncio.StreamReader) -> ProxyRequest | None:
    """Return the head of the next request; None where none follows.

    Raises:
        BadRequest. OSError: the connection was cut.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise BadRequest("it has no end") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest(f"its head is longer than {MOST_HEAD_BYTES} bytes") from error
    return parse_head(head)


def parse_head(head: bytes) -> ProxyRequest:
    """Return a request by its head, of which the empty line is the end.

    Raises:
        BadRequest: whoever reads it after us might read something else.
    """
    first, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[0] or not words[1] or set(words[0]) - _TOKEN:
        raise BadRequest("its first line is none")
    method, target, version = words
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest("it is of another version")
    if not target.isascii() or any(ord(char) <= 32 or ord(char) == 127 for char in target):
        raise BadRequest("its target is none")
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or set(name) - _TOKEN:
            raise BadRequest("a header is none")
        if any(char in value for char in "\r\n\0"):
            raise BadRequest("a header has a line break")
        headers.append((name, value.strip(" \t")))
    is_old = version == "HTTP/1.0"
    connection = ",".join(value for name, value in headers if name.lower() == "connection")
    closes = "close" in (word.strip().lower() for word in connection.split(","))
    length = _length(headers, is_old=is_old)
    waits = any(name.lower() == "expect" for name, _ in headers) and not is_old
    return ProxyRequest(
        method, target, headers, length, keeps=not (is_old or closes), is_old=is_old, waits=waits
    )


def _length(headers: Sequence[tuple[str, str]], *, is_old: bool) -> int:
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    codings = [value.lower() for name, value in headers if name.lower() == "transfer-encoding"]
    if codings:
        if codings != ["chunked"] or lengths or is_old:
            raise BadRequest("its length can be read in two ways")
        return _CHUNKED
    if not lengths:
        return 0
    text = lengths.pop()
    if lengths or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest("its length is none")
    return int(text)


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n") or len(line) > _MOST_LINE:
        raise BadRequest("a line has no end")
    return line


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    text = (await _line(reader)).partition(b";")[0].strip()
    if not text or len(text) > 15 or set(text.lower()) - set(b"0123456789abcdef"):
        raise BadRequest("the size of a chunk is none")
    return int(text, 16)
