"""Servers of strangers that send what no server should: each is refused, soon, and nothing is kept of it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator

import pytest

from pybuild.net.http1.faults import ConnectionLost, HttpFault
from tests.net.http1sites import Run, get, listening, wire

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(32 << 20), 9)
_MOST_BYTES = 256 << 20
_ENOUGH_BYTES = 8 << 20


def endless(begun: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        yield begun
        for _ in range(_MOST_BYTES // len(piece)):
            yield piece

    return parts


def fixed(data: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([data])


HEADERS = (b"A: " + b"x" * 1000 + b"\r\n") * 64
REFUSED: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "a header without end": (endless(OK + b"A: ", bytes(65536)), "cannot be read"),
    "headers without end": (endless(OK, HEADERS), "its head is longer than 65536 bytes"),
    "interim answers without end": (
        endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 2000),
        "its head is longer than 65536 bytes",
    ),
    "a chunk extension without end": (
        endless(CHUNKED + b"3;", b"x" * 65536),
        "more than 65536 bytes in which nothing of its body is",
    ),
    "trailers without end": (
        endless(CHUNKED + b"3\r\nabc\r\n0\r\n", HEADERS),
        "more than 65536 bytes in which nothing of its body is",
    ),
    "a body without end": (
        endless(OK + b"Content-Length: 999999999999\r\n\r\n", bytes(65536)),
        "answer is longer than 1048576 bytes",
    ),
    "a body that is cut": (fixed(OK + b"Content-Length: 50\r\n\r\nhello"), "connection cut"),
    "chunks that are cut": (fixed(CHUNKED + b"5\r\nhello\r\n"), "connection cut"),
    "a chunk of 2^64-1 bytes": (fixed(CHUNKED + b"FFFFFFFFFFFFFFFF\r\nabc"), "connection cut"),
    "two lengths": (fixed(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), "Duplicate"),
    "a length and chunks": (
        fixed(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "cannot be read",
    ),
    "a line break in a place": (
        fixed(b"HTTP/1.1 302 Found\r\nLocation: /x\rA: b\r\nContent-Length: 0\r\n\r\n"),
        "cannot be read",
    ),
    "a folded place": (
        fixed(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n y\r\nContent-Length: 0\r\n\r\n"),
        "cannot be read",
    ),
    "a zero byte in a header": (fixed(OK + b"A: x\0y\r\nContent-Length: 0\r\n\r\n"), "value char"),
    "no head": (fixed(b"hello there\n"), "Expected HTTP"),
    "another protocol": (
        fixed(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc"),
        "wants to go on in another protocol",
    ),
    "no status": (fixed(b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"), "its status is none"),
    "a status of four digits": (fixed(b"HTTP/1.1 2000 OK\r\n\r\n"), "Invalid response status"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_server_should_send_is_refused(run: Run, case: str) -> None:
    """And soon: of what has no end, no more is taken than buffers hold."""
    parts, reason = REFUSED[case]
    taken = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        for part in parts():
            writer.write(part)
            await writer.drain()
            taken += len(part)

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            with pytest.raises(HttpFault, match=reason) as caught:
                response = await get(w, f"http://{host}/")
                try:
                    await response.read(1 << 20)
                finally:
                    response.close()
            assert isinstance(caught.value, ConnectionLost) == ("cut" in reason)

    run(body())
    assert taken < _ENOUGH_BYTES


def test_a_body_is_never_inflated(run: Run) -> None:
    """Unpacking is the reader's, who does that within bounds."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nAccept-Encoding: identity\r\n" in head
        head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
        writer.write(OK + head + BOMB)
        await reader.read()

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            response = await get(w, f"http://{host}/")
            assert await response.read(1 << 20) == BOMB
            response.close()

    run(body())
