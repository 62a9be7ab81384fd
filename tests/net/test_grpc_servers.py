"""Our client with servers that are odd, leave, or break off; and our server leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.messages import prefix
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.status import Code, RpcError
from pybuild.net.http2.events import Fields
from pybuild.net.http2.frames import PREFACE, FrameReader, FrameType, frame
from tests.daemon.serving import ECHO, WAIT_S
from tests.net.wire import END_HEADERS, END_STREAM, RESPONSE, data, headers, reset, settings

END = END_HEADERS | END_STREAM
OK: Fields = [(b"grpc-status", b"0")]
HELLO = headers(1, RESPONSE) + data(1, prefix(5) + b"hello")
GOOD = HELLO + headers(1, OK, flags=END)


def _with_server(
    client: Callable[[Channel], Awaitable[None]],
    tmp_path: Path,
    answer: bytes,
    *,
    greeting: bytes = settings(),
    after: bytes = b"",
) -> None:
    """Run *client* with a server that says *answer* to each stream's HEADERS, then *after*."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PREFACE))
        writer.write(greeting)
        frames = FrameReader(2**24, 2**24)
        while piece := await reader.read(65_536):
            for kind, _, stream_id, _ in frames.feed(piece):
                if kind == FrameType.HEADERS:
                    number = stream_id.to_bytes(4, "big")
                    writer.write(_on_stream(answer, number) + after)
        writer.close()

    async def run() -> None:
        path = str(tmp_path / "s")
        async with asyncio.timeout(WAIT_S), await asyncio.start_unix_server(serve, path):
            channel = await Channel.connect(f"unix://{path}")
            try:
                await client(channel)
            finally:
                await channel.close()

    asyncio.run(run())


def _on_stream(wire: bytes, number: bytes) -> bytes:
    """Return frames written for stream 1 as frames of another stream."""
    out = b""
    while wire:
        size = int.from_bytes(wire[:3], "big") + 9
        at = number if wire[5:9] == b"\0\0\0\1" else wire[5:9]
        out += wire[:5] + at + wire[9:size]
        wire = wire[size:]
    return out


def test_reset_without_error_after_the_trailers_is_a_good_end(tmp_path: Path) -> None:
    """Go's server does that when we have not half-closed [remote-api 4, pitfall 6]."""

    async def client(channel: Channel) -> None:
        for _ in range(2):
            async with channel.stream("/t.T/M") as call:
                assert await call.receive() == b"hello"
                assert await call.receive() is None
                assert call.status is None
                await call.half_close()

    _with_server(client, tmp_path, GOOD + reset(1, 0))


def test_trailers_and_reset_before_we_read_lose_nothing(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        async with channel.stream("/t.T/M") as call:
            with pytest.raises(RpcError, match="before it had everything"):
                while True:
                    await call.send(bytes(10_000))
            assert await call.receive() == b"hello"
            assert await call.receive() is None

    _with_server(client, tmp_path, GOOD + reset(1, 0))


def test_sending_stops_when_the_server_ends_without_reading(tmp_path: Path) -> None:
    """Found by the fuzzer: whoever waited for the window waited for ever."""

    async def client(channel: Channel) -> None:
        async with channel.stream("/t.T/M") as call:
            with pytest.raises(RpcError, match="before it had everything"):
                await call.send(bytes(1 << 20))
            assert await call.receive() == b"hello"
            assert await call.receive() is None

    _with_server(client, tmp_path, GOOD)


ENDS: dict[str, tuple[bytes, Code]] = {
    "reset instead of trailers": (HELLO + reset(1, 0), Code.INTERNAL),
    "refused": (reset(1, 7), Code.UNAVAILABLE),
    "cancelled": (reset(1, 8), Code.CANCELLED),
    "told to calm down": (reset(1, 11), Code.RESOURCE_EXHAUSTED),
    "no trailers": (HELLO + data(1, b"", end=True), Code.INTERNAL),
    "trailers without status": (HELLO + headers(1, [(b"a", b"b")], flags=END), Code.INTERNAL),
    "status that is no number": (
        headers(1, [*RESPONSE, (b"grpc-status", b"x")], flags=END),
        Code.UNKNOWN,
    ),
    "a proxy's answer": (headers(1, [(b":status", b"503")], flags=END), Code.UNAVAILABLE),
    "a proxy's page": (headers(1, [(b":status", b"404")]) + data(1, b"no"), Code.UNIMPLEMENTED),
    "a web server": (
        headers(1, [(b":status", b"200"), (b"content-type", b"text/html")]),
        Code.UNKNOWN,
    ),
    "half a message": (
        headers(1, RESPONSE) + data(1, prefix(9) + b"x") + headers(1, OK, flags=END),
        Code.INTERNAL,
    ),
    "message above the limit": (headers(1, RESPONSE) + data(1, b"\0\x7f\0\0\0"), Code(8)),
    "unknown compression": (
        headers(1, [*RESPONSE, (b"grpc-encoding", b"br")]) + data(1, b"\1\0\0\0\1x"),
        Code.UNIMPLEMENTED,
    ),
    "no answer": (headers(1, RESPONSE) + headers(1, OK, flags=END), Code.INTERNAL),
    "two answers": (HELLO + data(1, prefix(0)) + headers(1, OK, flags=END), Code.INTERNAL),
    "broken HTTP/2": (data(0, b"x"), Code.UNAVAILABLE),
    "leaving": (
        frame(FrameType.GOAWAY, 0, 0, bytes(8)),
        Code.UNAVAILABLE,
    ),
}


@pytest.mark.parametrize(("answer", "code"), ENDS.values(), ids=ENDS.keys())
def test_calls_that_end_badly(answer: bytes, code: Code, tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.T/M", b"")
        assert caught.value.code == code

    _with_server(client, tmp_path, answer)


def test_pings_are_answered_while_nothing_else_happens(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        assert await channel.unary("/t.T/M", b"") == b"hello"

    _with_server(client, tmp_path, GOOD, after=frame(FrameType.PING, 0, 0, bytes(8)) * 3)


def test_calls_wait_for_a_place_on_the_connection(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        # The first call may be open before the server's settings are known.
        assert await channel.unary("/t.T/M", b"") == b"hello"
        answers = await asyncio.gather(*(channel.unary("/t.T/M", b"") for _ in range(20)))
        assert answers == [b"hello"] * 20

    _with_server(client, tmp_path, GOOD, greeting=settings(s3=2))


def test_call_gives_up_waiting_for_a_place_at_its_deadline(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        async with channel.stream("/t.T/M") as call:
            await call.headers()  # by now the server's settings are known
        async with channel.stream("/t.T/M"), channel.stream("/t.T/M"):
            with pytest.raises(RpcError) as caught:
                await channel.unary("/t.T/M", b"", timeout=0.01)
            assert caught.value.code == Code.DEADLINE_EXCEEDED

    _with_server(client, tmp_path, headers(1, RESPONSE), greeting=settings(s3=2))


def test_nobody_there(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(FileNotFoundError):
            await Channel.connect(f"unix://{tmp_path / 's'}")
        with pytest.raises(ValueError, match='"localhost" has no port'):
            await Channel.connect("localhost")

    asyncio.run(run())


# Our server leaves.


async def _served(tmp_path: Path, server: GrpcServer) -> tuple[asyncio.Server, Channel]:
    loop = asyncio.get_running_loop()
    listener = await loop.create_unix_server(server.protocol, str(tmp_path / "s"))
    return listener, await Channel.connect(f"unix://{tmp_path / 's'}")


def test_closing_lets_calls_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def slow(call: IncomingCall) -> None:
        started.set()
        await go.wait()
        await call.send(b"done")

    async def run() -> None:
        server = GrpcServer({**ECHO, "/t.T/Slow": slow})
        listener, channel = await _served(tmp_path, server)
        async with asyncio.timeout(WAIT_S):
            call = asyncio.create_task(channel.unary("/t.T/Slow", b""))
            await started.wait()
            closing = asyncio.create_task(server.close(WAIT_S))
            with pytest.raises(RpcError) as caught:
                while True:
                    await channel.unary("/test.Echo/One", b"")
            assert caught.value.code == Code.UNAVAILABLE
            go.set()
            assert await call == b"done"
            await closing
            await channel.closed.wait()
            await channel.close()
            listener.close()

    asyncio.run(run())


def test_closing_ends_calls_that_do_not_finish(tmp_path: Path) -> None:
    started = asyncio.Event()
    cleaned: list[str] = []

    async def stuck(call: IncomingCall) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("stuck")

    async def run() -> None:
        server = GrpcServer({"/t.T/Stuck": stuck})
        listener, channel = await _served(tmp_path, server)
        async with asyncio.timeout(WAIT_S):
            call = asyncio.create_task(channel.unary("/t.T/Stuck", b""))
            await started.wait()
            await server.close(0)
            assert cleaned == ["stuck"]
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.code == Code.UNAVAILABLE
            await channel.close()
            listener.close()

    asyncio.run(run())
