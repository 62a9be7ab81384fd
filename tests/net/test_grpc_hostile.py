"""Sockets that speak something else, stop halfway, or ask for too much."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.messages import Inbox, prefix
from pybuild.net.grpc.status import Code, RpcError
from pybuild.net.http2.compression import FieldDecoder
from pybuild.net.http2.events import Fields
from pybuild.net.http2.frames import PREFACE, FrameReader, FrameType, frame
from pybuild.net.http2.settings import Http2Limits
from tests.daemon.serving import ECHO, WAIT_S, channel, echo, serving
from tests.net.wire import END_HEADERS, END_STREAM, GREETING, REQUEST, Sent, data, headers, reset

END = END_HEADERS | END_STREAM


class Raw:
    """A client by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames = FrameReader(2**24, 2**24)
        self.fields = FieldDecoder(2**20)
        self.got: list[Sent] = []
        self.closed = False

    async def until(self, kind: FrameType, stream_id: int | None = None) -> Sent:
        """Return the next frame of that kind."""
        while True:
            for at, each in enumerate(self.got):
                if each.kind == kind and stream_id in (None, each.stream_id):
                    del self.got[: at + 1]
                    return each
            piece = await self.reader.read(65_536)
            if not piece:
                raise EOFError(f"closed without {kind.name}")
            for number, flags, at, body in self.frames.feed(piece):
                self.got.append(Sent(FrameType(number), flags, at, bytes(body)))

    async def answer(self, stream_id: int) -> dict[bytes, bytes]:
        """Return the fields of the next header section on that stream."""
        while True:
            found = await self.until(FrameType.HEADERS)
            fields = dict(self.fields.decode(found.payload))
            if found.stream_id == stream_id:
                return fields

    async def end(self) -> bytes:
        """Return what comes until the server closes."""
        return await self.reader.read()


def _with_socket(
    client: Callable[[Raw], Awaitable[None]],
    handlers: dict[str, Handler] | None = None,
    limits: GrpcLimits | None = None,
) -> None:
    """Run *client*; afterwards the server must still serve others."""

    async def run() -> None:
        table = ECHO | (handlers or {})
        async with serving(table, limits) as path, asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_unix_connection(str(path))
            await client(Raw(reader, writer))
            writer.close()
            await _still_serves(path)

    asyncio.run(run())


async def _still_serves(path: Path) -> None:
    other = await Channel.connect(f"unix://{path}")
    assert await other.unary("/test.Echo/One", b"well") == b"well"
    await other.close()


def _to(path: bytes, *more: tuple[bytes, bytes]) -> Fields:
    return [field if field[0] != b":path" else (b":path", path) for field in REQUEST] + list(more)


ECHO_ONE = _to(b"/test.Echo/One")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"POST /v1/x HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b""),
        (b"\x00" * 100_000, b""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", b"HTTP/1.1 400 Bad Request\r\n"),
    ],
    ids=["GET", "POST", "TLS", "zeros", "wrong preface"],
)
def test_other_protocols_get_an_answer_that_they_can_read(sent: bytes, expected: bytes) -> None:
    async def client(raw: Raw) -> None:
        raw.writer.write(sent)
        assert (await raw.end())[:26] == expected[:26]

    _with_socket(client)


def test_garbage_after_the_preface_is_answered_by_goaway() -> None:
    async def client(raw: Raw) -> None:
        raw.writer.write(PREFACE + b"\xff" * 1000)
        goodbye = await raw.until(FrameType.GOAWAY)
        assert int.from_bytes(goodbye.payload[4:8], "big") in (1, 6)
        assert await raw.end() == b""

    _with_socket(client)


@pytest.mark.parametrize("begun", [b"", PREFACE[:5]])
def test_slow_preface_is_not_waited_for(begun: bytes) -> None:
    async def client(raw: Raw) -> None:
        raw.writer.write(begun)
        try:
            answer = await raw.end()
        except ConnectionResetError:
            answer = b""
        assert answer == b""

    _with_socket(client, limits=GrpcLimits(preface_s=0.02))


def test_client_that_hangs_up_cancels_its_calls() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def stuck(call: IncomingCall) -> None:
        started.set()
        try:
            await call.receive()
        finally:
            cancelled.set()

    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING + headers(1, _to(b"/test.Stuck/It")))
        await started.wait()
        raw.writer.write_eof()
        await cancelled.wait()
        await raw.end()

    _with_socket(client, {"/test.Stuck/It": stuck})


def test_reset_cancels_the_call() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def stuck(call: IncomingCall) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING + headers(1, _to(b"/test.Stuck/It"), flags=END))
        await started.wait()
        raw.writer.write(reset(1))
        await cancelled.wait()

    _with_socket(client, {"/test.Stuck/It": stuck})


def test_rapid_reset_starts_no_more_handlers_than_may_run() -> None:
    running = most = 0
    go = asyncio.Event()

    async def stubborn(call: IncomingCall) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.Event().wait()
        finally:
            await go.wait()
            running -= 1

    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING)
        path = _to(b"/test.Stubborn/It")
        for number in range(1, 80, 2):
            raw.writer.write(headers(number, path) + frame(FrameType.PING, 0, 0, bytes(8)))
            await raw.until(FrameType.PING)
            raw.writer.write(reset(number))
        go.set()

    limits = GrpcLimits(http2=Http2Limits(streams=10))
    _with_socket(client, {"/test.Stubborn/It": stubborn}, limits)
    assert most == 20


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (_to(b"/test.Echo/Two"), (b"200", b"12")),
        (_to(b"/"), (b"200", b"12")),
        (_to(b"/\xff\xfe/%"), (b"200", b"12")),
        (_to(b"/test.Echo/One", (b"grpc-timeout", b"soon")), (b"200", b"13")),
        (_to(b"/test.Echo/One", (b"grpc-timeout", b"123456789S")), (b"200", b"13")),
        (_to(b"/test.Echo/One", (b"x-bin", b"!!")), (b"200", b"13")),
        (_to(b"/test.Echo/One", (b"grpc-timeout", b"0n")), (b"200", b"4")),
        ([(b":method", b"GET"), *REQUEST[1:]], (b"405", None)),
        (REQUEST[:4], (b"415", None)),
        ([*REQUEST[:4], (b"content-type", b"application/json")], (b"415", None)),
        ([*REQUEST[:4], (b"content-type", b"application/grpcx")], (b"415", None)),
    ],
)
def test_requests_that_are_not_served(fields: Fields, status: tuple[bytes, bytes | None]) -> None:
    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING + headers(1, fields))
        answer = await raw.answer(1)
        assert (answer[b":status"], answer.get(b"grpc-status")) == status
        # The stream is over though the request has not ended.
        assert (await raw.until(FrameType.RST_STREAM, 1)).payload == bytes(4)

    _with_socket(client)


BODIES = {
    "length above the limit": (b"\0\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED),
    "flag without encoding": (b"\1\0\0\0\1x", Code.INTERNAL),
    "unknown flag": (b"\x80\0\0\0\1x", Code.INTERNAL),
    "cut in a message": (prefix(5) + b"abc", Code.INTERNAL),
    "cut in a prefix": (b"\0\0", Code.INTERNAL),
    "no message": (b"", Code.INTERNAL),
    "two messages": (prefix(1) + b"x" + prefix(1) + b"y", Code.INTERNAL),
}


@pytest.mark.parametrize(("body", "code"), BODIES.values(), ids=BODIES.keys())
def test_bodies_that_are_no_message(body: bytes, code: Code) -> None:
    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING + headers(1, ECHO_ONE) + data(1, body, end=True))
        assert (await raw.answer(1))[b"grpc-status"] == b"%d" % code

    _with_socket(client)


def _zipped(body: bytes) -> bytes:
    return b"\1" + len(body).to_bytes(4, "big") + body


ZIPPED = {
    "good": (b"gzip", _zipped(gzip.compress(b"hello")), None),
    "bomb": (b"gzip", _zipped(gzip.compress(bytes(1 << 20))), Code.RESOURCE_EXHAUSTED),
    "garbage": (b"gzip", _zipped(b"hello"), Code.INTERNAL),
    "cut": (b"gzip", _zipped(gzip.compress(b"hello")[:-9]), Code.INTERNAL),
    "snappy": (b"snappy", _zipped(b"hello"), Code.UNIMPLEMENTED),
    "identity": (b"identity", _zipped(b"hello"), Code.INTERNAL),
}


@pytest.mark.parametrize(("encoding", "body", "code"), ZIPPED.values(), ids=ZIPPED.keys())
def test_compressed_messages(encoding: bytes, body: bytes, code: Code | None) -> None:
    async def client(raw: Raw) -> None:
        fields = [*ECHO_ONE, (b"grpc-encoding", encoding)]
        raw.writer.write(GREETING + headers(1, fields) + data(1, body, end=True))
        answer = await raw.answer(1)
        if code is None:
            assert (await raw.until(FrameType.DATA, 1)).payload == prefix(5) + b"hello"
        else:
            assert answer[b"grpc-status"] == b"%d" % code

    _with_socket(client, limits=GrpcLimits(message_bytes=100_000))


def test_message_larger_than_the_windows_arrives() -> None:
    small = GrpcLimits(http2=Http2Limits(stream_window=70_000, connection_window=80_000))

    async def run() -> None:
        async with channel(ECHO, small, small) as client:
            assert await client.unary("/test.Echo/One", bytes(1 << 20)) == bytes(1 << 20)

    asyncio.run(run())


def test_handler_that_does_not_read_holds_the_client_back() -> None:
    go = asyncio.Event()
    limits = GrpcLimits(http2=Http2Limits(stream_window=100_000, connection_window=200_000))

    async def lazy(call: IncomingCall) -> None:
        await go.wait()
        size = 0
        while (message := await call.receive()) is not None:
            size += len(message)
        await call.send(b"%d" % size)

    async def run() -> None:
        async with channel({"/t.T/Lazy": lazy}, limits) as client:
            async with client.stream("/t.T/Lazy") as call:
                sent = 0
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        while sent < 1_000:
                            await call.send(bytes(1_000))
                            sent += 1
                assert sent < 110
                go.set()
            async with client.stream("/t.T/Lazy") as call:
                for _ in range(500):
                    await call.send(bytes(1_000))
                await call.half_close()
                assert await call.receive() == b"500000"

    asyncio.run(run())


def test_unread_messages_of_all_calls_are_bounded() -> None:
    """Calls that wait for long messages get them beyond the windows, but not for ever."""
    http2 = Http2Limits(stream_window=70_000, connection_window=80_000)
    limits = GrpcLimits(unread_bytes=300_000, message_bytes=200_000, http2=http2)

    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING)
        for stream_id in (1, 3, 5):
            raw.writer.write(headers(stream_id, ECHO_ONE) + data(stream_id, prefix(150_000)))
        statuses: list[bytes] = []
        for _ in range(11):
            for stream_id in (1, 3, 5):
                raw.writer.write(data(stream_id, bytes(10_000)))
                await raw.writer.drain()
                await asyncio.sleep(0.001)
        statuses.append((await raw.answer(5))[b"grpc-status"])
        assert statuses == [b"8"]

    _with_socket(client, limits=limits)


def test_unread_messages_of_all_connections_of_an_owner_are_bounded() -> None:
    async def lazy(call: IncomingCall) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        limits = GrpcLimits(unread_bytes=250_000)
        async with serving({"/t.T/Lazy": lazy}, limits) as path, asyncio.timeout(WAIT_S):
            raws = [Raw(*await asyncio.open_unix_connection(str(path))) for _ in range(3)]
            for raw in raws:
                raw.writer.write(GREETING + headers(1, _to(b"/t.T/Lazy")))
                raw.writer.write(data(1, prefix(90_000) + bytes(9_000)) + data(1, bytes(9_000)) * 9)
            answers = [asyncio.create_task(raw.answer(1)) for raw in raws]
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert [(await task)[b"grpc-status"] for task in done] == [b"8"]
            for task, raw in zip(answers, raws, strict=True):
                task.cancel()
                raw.writer.close()
            await asyncio.gather(*answers, return_exceptions=True)

    asyncio.run(run())


def test_messages_of_no_bytes_are_counted_with_what_they_take() -> None:
    async def lazy(call: IncomingCall) -> None:
        await asyncio.Event().wait()

    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING + headers(1, _to(b"/t.T/Lazy")))
        raw.writer.write(data(1, prefix(0) * 3_000) * 3)
        assert (await raw.answer(1))[b"grpc-status"] == b"8"

    _with_socket(client, {"/t.T/Lazy": lazy}, GrpcLimits(unread_bytes=1_000_000))


@pytest.mark.slow
def test_message_in_frames_of_one_byte_takes_no_more_than_its_bytes() -> None:
    inbox = Inbox(1 << 20)
    inbox.feed((memoryview(prefix(20_000)),), 5)
    tracemalloc.start()
    try:
        for _ in range(19_999):
            inbox.feed((memoryview(b"x"),), 1)
        assert tracemalloc.get_traced_memory()[0] < 40_000
    finally:
        tracemalloc.stop()
    assert inbox.partial == 20_004
    assert not inbox.messages


def test_client_that_does_not_read_holds_the_handler_back() -> None:
    sizes: list[int] = []
    ended = asyncio.Event()

    async def flood(call: IncomingCall) -> None:
        try:
            while True:
                await call.send(bytes(10_000))
                sizes.append(10_000)
        finally:
            ended.set()

    async def client(raw: Raw) -> None:
        greeting = PREFACE + frame(FrameType.SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff")
        wide = frame(FrameType.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
        raw.writer.write(greeting + wide + headers(1, _to(b"/t.T/Flood")))
        before = -1
        while before != len(sizes) or not sizes:
            before = len(sizes)
            await asyncio.sleep(0.02)
        assert sum(sizes) < 8 << 20
        raw.writer.transport.abort()
        await ended.wait()

    _with_socket(client, {"/t.T/Flood": flood})


def test_bug_in_a_handler_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(call: IncomingCall) -> None:
        raise KeyError("secret")

    async def run() -> None:
        async with channel({"/t.T/Broken": broken}) as client:
            with pytest.raises(RpcError) as caught:
                await client.unary("/t.T/Broken", b"")
            assert (caught.value.code, caught.value.message) == (Code.INTERNAL, "internal error")

    asyncio.run(run())
    assert "/t.T/Broken failed" in caplog.text


def test_deadline_ends_the_call_and_its_handler() -> None:
    cancelled = asyncio.Event()

    async def stuck(call: IncomingCall) -> None:
        assert call.deadline is not None
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def client(raw: Raw) -> None:
        fields = _to(b"/t.T/Stuck", (b"grpc-timeout", b"10m"))
        raw.writer.write(GREETING + headers(1, fields, flags=END))
        assert (await raw.answer(1))[b"grpc-status"] == b"4"
        await cancelled.wait()

    _with_socket(client, {"/t.T/Stuck": stuck})


def test_unary_handlers_are_not_called_without_a_whole_request() -> None:
    called = False

    async def handler(request: bytes, call: IncomingCall) -> bytes:
        nonlocal called
        called = True
        return await echo(request, call)

    async def client(raw: Raw) -> None:
        raw.writer.write(GREETING + headers(1, _to(b"/t.T/One")) + data(1, prefix(1) + b"x"))
        raw.writer.write(reset(1) + frame(FrameType.PING, 0, 0, bytes(8)))
        await raw.until(FrameType.PING)
        assert not called

    _with_socket(client, {"/t.T/One": unary(handler)})
