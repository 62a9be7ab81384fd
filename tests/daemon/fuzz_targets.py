"""Targets of the fuzzer, and the laws that must hold whatever comes in."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pybuild.net.grpc import timeouts
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.link import GrpcLink
from pybuild.net.grpc.messages import Inbox
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.status import Code, RpcError, from_fields, to_fields
from pybuild.net.http2.compression import FieldDecoder
from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import ConnectionFault, StreamGone, name_of
from pybuild.net.http2.events import ConnectionFailed, Data, Headers, Reset
from pybuild.net.http2.frames import PREFACE, FrameReader, FrameType
from pybuild.net.http2.settings import Http2Limits
from pybuild.net.http2.streams import Buffer
from tests.daemon.serving import ECHO
from tests.net.wire import REQUEST, RESPONSE, Clock

HTTP2 = Http2Limits(streams=20, stream_window=70_000, connection_window=90_000, patience=5_000)
LIMITS = GrpcLimits(http2=HTTP2, message_bytes=50_000, unread_bytes=200_000)
_MOST_OUTPUT = 3 << 20


class Loud(logging.Handler):
    """Notices what went wrong where nobody waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(logging.ERROR)
        self._heard: list[str] = []
        loop.set_exception_handler(lambda _, context: self._heard.append(repr(context)))
        logger = logging.getLogger("pybuild.daemon")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it."""
        self._heard.append(self.format(record))

    def check(self) -> None:
        """Fail if there was something."""
        if self._heard:
            heard, self._heard = self._heard, []
            raise AssertionError("\n".join(heard))


@dataclass(slots=True)
class Seen:
    """The report of a connection; pieces of a body that follow each other are one."""

    what: str
    stream_id: int = 0
    body: bytes = b""
    end: bool = False


def _pieces(data: bytes, rng: random.Random) -> list[bytes]:
    most = rng.choice((1, 7, 100, 20_000, 1 << 20))
    if most < 100 and len(data) > 5_000:
        most = 3_000
    pieces: list[bytes] = []
    while data:
        size = rng.randrange(1, most + 1)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def _follow(
    connection: Connection, pieces: list[bytes], *, answers: bool
) -> tuple[str, list[Seen]]:
    """Give the pieces to a connection; return the end and what was understood.

    Args:
        answers: requests are answered and windows given back as the pieces come.
    """
    seen: list[Seen] = []
    outcome = "fine"
    said = b""
    for piece in pieces:
        for event in connection.receive(piece):
            assert outcome == "fine" or not outcome.startswith("failed"), "an event after the end"
            match event:
                case Data():
                    if not seen or (seen[-1].what, seen[-1].stream_id) != ("body", event.stream_id):
                        seen.append(Seen("body", event.stream_id))
                    seen[-1].body += b"".join(event.pieces)
                    seen[-1].end |= event.end
                    if answers:
                        connection.consumed(event.stream_id, event.size)
                case Headers():
                    seen.append(Seen(repr(event), event.stream_id))
                    if answers and not connection.client and event.end:
                        _answer(connection, event.stream_id)
                case ConnectionFailed():
                    outcome = f"failed {name_of(event.code)}"
                    seen.append(Seen(outcome))
                case Reset():
                    outcome = f"reset {name_of(event.code)}"
                    seen.append(Seen(outcome, event.stream_id))
                case _:
                    seen.append(Seen(repr(event)))
        if answers:
            said += b"".join(connection.output())
        assert len(said) < _MOST_OUTPUT, "talks without end"
    said += b"".join(connection.output())
    frames = list(FrameReader(2**24, 2**24).feed(said.removeprefix(PREFACE)))
    assert any(kind == FrameType.GOAWAY for kind, *_ in frames[-1:]) == connection.failed
    assert len(connection.streams) <= HTTP2.streams
    for stream in connection.streams.values():
        assert 0 <= stream.receive_window <= HTTP2.stream_window
        assert not (stream.local_closed and stream.remote_closed)
    return outcome, seen


def _answer(connection: Connection, stream_id: int) -> None:
    try:
        connection.send_headers(stream_id, RESPONSE)
        connection.send_data(stream_id, bytes(1_000))
        connection.answer(stream_id, [(b"grpc-status", b"0")])
    except StreamGone:
        pass


async def _connection(data: bytes, rng: random.Random, *, client: bool) -> str:
    results: list[tuple[str, list[Seen]]] = []
    small = _pieces(data, rng)
    for pieces, answers in (([data], False), (small, False), (small, True)):
        connection = Connection(client=client, limits=HTTP2, clock=Clock())
        if client:
            for _ in range(2):
                connection.send_data(connection.open(REQUEST), bytes(2_000), end=True)
        results.append(_follow(connection, pieces, answers=answers))
    if "failed ENHANCE_YOUR_CALM" not in (results[0][0], results[1][0]):
        assert _lasting(results[0][1]) == _lasting(results[1][1]), "pieces matter"
    return results[2][0]


def _lasting(seen: list[Seen]) -> list[Seen]:
    """Leave out the bodies of streams that were reset: a part of them may have been given out."""
    gone = {each.stream_id for each in seen if each.what.startswith("reset")}
    failed = any(each.what.startswith("failed") for each in seen)
    return [each for each in seen if each.what != "body" or not (failed or each.stream_id in gone)]


class Sink:
    """A transport that is sometimes full."""

    def __init__(self, link: GrpcLink, rng: random.Random) -> None:
        self._link = link
        self._rng = rng
        self.size = 0
        self.closed = False

    def writelines(self, chunks: list[Buffer], /) -> None:
        """Take what is written."""
        self.size += sum(map(len, chunks))
        if self._rng.random() < 0.2:
            self._link.hold()

    def close(self) -> None:
        """Note it."""
        self.closed = True


async def _feed(link: GrpcLink, data: bytes, rng: random.Random) -> None:
    sink = Sink(link, rng)
    link.attach(sink)
    for piece in _pieces(data, rng)[:3_000]:
        if sink.closed:
            break
        link.received(piece)
        if rng.random() < 0.3:
            await asyncio.sleep(0)
            link.release()
    for _ in range(3):
        await asyncio.sleep(0)
        link.release()
    assert sink.size < _MOST_OUTPUT
    assert 0 <= link.backlog.size <= LIMITS.unread_bytes + 100_000


async def _grpc_server(data: bytes, rng: random.Random) -> str:
    server = GrpcServer(ECHO, limits=LIMITS)
    link = server.link()
    before = len(asyncio.all_tasks())
    await _feed(link, data, rng)
    is_cut = link.is_cut
    calls = len(link.flows)
    await server.close(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not link.flows
    assert link.backlog.size == 0
    assert len(asyncio.all_tasks()) <= before, "a task is left"
    return "lost" if is_cut else f"{min(calls, 3)} calls open"


async def _grpc_client(data: bytes, rng: random.Random) -> str:
    link = GrpcLink(Connection(client=True, limits=HTTP2), LIMITS)
    channel = Channel(link, "localhost")
    before = len(asyncio.all_tasks())

    async def follow() -> bytes:
        async with channel.stream("/t.T/Follow") as call:
            await call.headers()
            while await call.receive() is not None:
                await call.send(bytes(1_000))
        return b""

    tasks = [
        asyncio.create_task(channel.unary("/t.T/One", b"hello", timeout=60)),
        asyncio.create_task(follow()),
    ]
    await asyncio.sleep(0)
    await _feed(link, data, rng)
    done = sum(task.done() for task in tasks)
    link.close(RpcError(Code.UNAVAILABLE, "the end"))
    ends: list[str] = []
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, BaseException) and not isinstance(end, RpcError):
            raise end
        ends.append(end.code.name if isinstance(end, RpcError) else "OK")
    assert not link.flows
    assert link.backlog.size == 0
    assert len(asyncio.all_tasks()) <= before, "a task is left"
    return f"{done} done, {' '.join(sorted(ends))}"


async def _parsers(data: bytes, rng: random.Random) -> str:
    which, data = (data[0], data[1:]) if data else (0, b"")
    try:
        match which % 5:
            case 0:
                fields = FieldDecoder(20_000).decode(data)
                assert sum(len(name) + len(value) + 32 for name, value in fields) <= 20_000
            case 1:
                inbox = Inbox(5_000)
                inbox.encoding = b"gzip"
                for piece in _pieces(data, rng):
                    inbox.feed((memoryview(piece),), len(piece))
                inbox.end()
                assert all(len(message) <= 5_000 for message, _ in inbox.messages)
            case 2:
                assert timeouts.parse(data) >= 0
            case 3:
                values = (data + b"\n\n").split(b"\n")
                names = (b"grpc-status", b"grpc-message", b"grpc-status-details-bin")
                error = from_fields(list(zip(names, values, strict=False)))
                if error is not None:
                    again = from_fields(to_fields(error, 1 << 20))
                    assert again is not None
                    assert again.message == error.message
            case _:
                values = data.split(b"\n")
                # Names are ASCII by the rules of HTTP/2, which were applied before.
                pairs = zip(values[::2], values[1::2], strict=False)
                Metadata.from_fields([(name, value) for name, value in pairs if name.isascii()])
    except (RpcError, ConnectionFault, ValueError) as error:
        return f"{which % 5} {type(error).__name__}"
    return f"{which % 5} fine"


Target = Callable[[bytes, random.Random], Awaitable[str]]


def _role(*, client: bool) -> Target:
    async def target(data: bytes, rng: random.Random) -> str:
        return await _connection(data, rng, client=client)

    return target


TARGETS: dict[str, Target] = {
    "server": _role(client=False),
    "client": _role(client=True),
    "grpc_server": _grpc_server,
    "grpc_client": _grpc_client,
    "parsers": _parsers,
}
