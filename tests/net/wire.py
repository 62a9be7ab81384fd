"""Frames by hand, and a connection that is past its greeting, for the tests of HTTP/2."""

from __future__ import annotations

from dataclasses import dataclass

from pybuild.net.http2.compression import encode
from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import name_of
from pybuild.net.http2.events import ConnectionFailed, Event, Fields, Reset
from pybuild.net.http2.frames import PREFACE, FrameReader, FrameType, frame
from pybuild.net.http2.settings import Http2Limits

REQUEST: Fields = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t.T/M"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]
RESPONSE: Fields = [(b":status", b"200"), (b"content-type", b"application/grpc")]
GREETING = PREFACE + frame(FrameType.SETTINGS, 0, 0)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20


def headers(stream_id: int, fields: Fields = REQUEST, *, flags: int = END_HEADERS) -> bytes:
    """Return a HEADERS frame."""
    return frame(FrameType.HEADERS, flags, stream_id, encode(fields))


def data(stream_id: int, body: bytes = b"", *, end: bool = False) -> bytes:
    """Return a DATA frame."""
    return frame(FrameType.DATA, END_STREAM if end else 0, stream_id, body)


def reset(stream_id: int, code: int = 8) -> bytes:
    """Return RST_STREAM."""
    return frame(FrameType.RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def window(stream_id: int, by: int) -> bytes:
    """Return WINDOW_UPDATE."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, by.to_bytes(4, "big"))


def settings(**values: int) -> bytes:
    """Return SETTINGS; names are ``s`` and the identifier."""
    return frame(
        FrameType.SETTINGS,
        0,
        0,
        b"".join(
            int(key[1:]).to_bytes(2, "big") + value.to_bytes(4, "big")
            for key, value in values.items()
        ),
    )


@dataclass(frozen=True)
class Sent:
    """One frame that a connection had to say."""

    kind: FrameType
    flags: int
    stream_id: int
    payload: bytes


def sent(connection: Connection) -> list[Sent]:
    """Return the frames that are ready to be written."""
    output = b"".join(connection.output())
    output = output.removeprefix(PREFACE)
    frames = FrameReader(2**24, 2**24).feed(output)
    return [Sent(FrameType(kind), flags, at, bytes(body)) for kind, flags, at, body in frames]


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def server(limits: Http2Limits | None = None, clock: Clock | None = None) -> Connection:
    """Return a server whose client has greeted it; what it had to say is gone."""
    connection = Connection(client=False, limits=limits, clock=clock or Clock())
    assert connection.receive(GREETING) == []
    sent(connection)
    return connection


def client(limits: Http2Limits | None = None) -> Connection:
    """Return a client whose server has greeted it; what it had to say is gone."""
    connection = Connection(client=True, limits=limits, clock=Clock())
    assert connection.receive(frame(FrameType.SETTINGS, 0, 0)) == []
    sent(connection)
    return connection


def outcome(events: list[Event]) -> str:
    """Return how the last event judges the input: a failure, a reset, or "fine"."""
    for event in reversed(events):
        if isinstance(event, ConnectionFailed):
            return f"connection {name_of(event.code)}"
        if isinstance(event, Reset) and not event.by_peer:
            return f"stream {name_of(event.code)}"
    return "fine"
