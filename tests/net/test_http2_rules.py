"""Rules of RFC 9113 and RFC 7541, and the answer to each breach; and the things that they allow."""

from __future__ import annotations

import pytest

from pybuild.net.http2.compression import encode
from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import name_of
from pybuild.net.http2.events import Headers
from pybuild.net.http2.frames import PREFACE, FrameType, frame
from tests.net.wire import (
    ACK,
    END_HEADERS,
    GREETING,
    PADDED,
    PRIORITY,
    REQUEST,
    RESPONSE,
    Clock,
    client,
    data,
    headers,
    outcome,
    reset,
    sent,
    server,
    settings,
    window,
)

FINE = "fine"
PROTOCOL = "connection PROTOCOL_ERROR"
SIZE = "connection FRAME_SIZE_ERROR"
FLOW = "connection FLOW_CONTROL_ERROR"
CLOSED = "connection STREAM_CLOSED"
COMPRESSION = "connection COMPRESSION_ERROR"
CALM = "connection ENHANCE_YOUR_CALM"
MALFORMED = "stream PROTOCOL_ERROR"
BLOCK = encode(REQUEST)


def raw(kind: int, stream_id: int, body: bytes = b"", flags: int = 0) -> bytes:
    return frame(kind, flags, stream_id, body)


def request(*more: tuple[bytes, bytes], without: bytes = b"") -> bytes:
    return headers(1, [field for field in REQUEST if field[0] != without] + list(more))


GREETINGS = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", PROTOCOL),
    "a preface that goes wrong": (PREFACE[:-1] + b"x", PROTOCOL),
    "half a preface": (PREFACE[:10], FINE),
    "no settings first": (PREFACE + raw(FrameType.PING, 0, bytes(8)), PROTOCOL),
    "data first": (PREFACE + data(1, b"x"), PROTOCOL),
    "an acknowledgement first": (PREFACE + raw(FrameType.SETTINGS, 0, flags=ACK), PROTOCOL),
}


@pytest.mark.parametrize(("wire", "expected"), GREETINGS.values(), ids=GREETINGS.keys())
def test_greeting(wire: bytes, expected: str) -> None:
    assert outcome(Connection(client=False, clock=Clock()).receive(wire)) == expected


FRAMES = {
    # Sizes (4.2, 6).
    "frame above our MAX_FRAME_SIZE": (
        (2**20 + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1",
        SIZE,
    ),
    "PING of 7": (raw(FrameType.PING, 0, bytes(7)), SIZE),
    "PRIORITY of 4": (raw(FrameType.PRIORITY, 1, bytes(4)), SIZE),
    "RST_STREAM of 3": (headers(1) + raw(FrameType.RST_STREAM, 1, bytes(3)), SIZE),
    "WINDOW_UPDATE of 5": (raw(FrameType.WINDOW_UPDATE, 0, bytes(5)), SIZE),
    "SETTINGS of 7": (raw(FrameType.SETTINGS, 0, bytes(7)), SIZE),
    "SETTINGS, acknowledged with values": (raw(FrameType.SETTINGS, 0, bytes(6), ACK), SIZE),
    "GOAWAY of 7": (raw(FrameType.GOAWAY, 0, bytes(7)), SIZE),
    "GOAWAY without end": (b"\x0f\xff\xff\x07\0\0\0\0\0", CALM),
    "HEADERS too short for a priority": (raw(FrameType.HEADERS, 1, bytes(4), PRIORITY | 4), SIZE),
    "padded frame without length": (headers(1) + raw(FrameType.DATA, 1, b"", PADDED), SIZE),
    # Stream numbers (5.1.1, 6).
    "DATA on stream 0": (data(0, b"x"), PROTOCOL),
    "HEADERS on stream 0": (headers(0), PROTOCOL),
    "PRIORITY on stream 0": (raw(FrameType.PRIORITY, 0, bytes(5)), PROTOCOL),
    "RST_STREAM on stream 0": (reset(0), PROTOCOL),
    "SETTINGS on stream 1": (raw(FrameType.SETTINGS, 1), PROTOCOL),
    "PING on stream 1": (raw(FrameType.PING, 1, bytes(8)), PROTOCOL),
    "GOAWAY on stream 1": (raw(FrameType.GOAWAY, 1, bytes(8)), PROTOCOL),
    "even stream from a client": (headers(2), PROTOCOL),
    "stream numbers going down": (headers(5) + headers(3), CLOSED),
    "stream numbers with gaps": (headers(5) + headers(77), FINE),
    "reserved bit": (headers(1) + b"\0\0\0\0\0\x80\0\0\1", FINE),
    # Idle streams (5.1).
    "DATA on an idle stream": (data(1, b"x"), PROTOCOL),
    "RST_STREAM on an idle stream": (reset(1), PROTOCOL),
    "WINDOW_UPDATE on an idle stream": (window(1, 1), PROTOCOL),
    "WINDOW_UPDATE on a stream of ours": (window(2, 1), PROTOCOL),
    "PRIORITY on an idle stream": (raw(FrameType.PRIORITY, 1, bytes(5)), FINE),
    # After the end.
    "DATA after the end": (headers(1, flags=5) + data(1, b"x"), "stream STREAM_CLOSED"),
    "HEADERS after the end": (headers(1, flags=5) + headers(1), "stream STREAM_CLOSED"),
    "WINDOW_UPDATE after the end": (headers(1, flags=5) + window(1, 1), FINE),
    "RST_STREAM after the end": (headers(1, flags=5) + reset(1), FINE),
    "DATA after RST_STREAM": (headers(1) + reset(1) + data(1, b"x"), CLOSED),
    "HEADERS after RST_STREAM": (headers(1) + reset(1) + headers(1), CLOSED),
    "WINDOW_UPDATE after RST_STREAM": (headers(1) + reset(1) + window(1, 1), FINE),
    "RST_STREAM twice": (headers(1) + reset(1) + reset(1), FINE),
    "DATA after we have reset": (request((b"A", b"")) + data(1, b"x") + data(1, b"y"), MALFORMED),
    # Header blocks (4.3, 6.10).
    "CONTINUATION alone": (raw(FrameType.CONTINUATION, 1, b"", END_HEADERS), PROTOCOL),
    "CONTINUATION after the block": (
        headers(1) + raw(FrameType.CONTINUATION, 1, b"", END_HEADERS),
        PROTOCOL,
    ),
    "block in three frames": (
        raw(FrameType.HEADERS, 1, BLOCK[:3])
        + raw(FrameType.CONTINUATION, 1, BLOCK[3:5])
        + raw(FrameType.CONTINUATION, 1, BLOCK[5:], END_HEADERS),
        FINE,
    ),
    "block with a frame of another stream": (
        raw(FrameType.HEADERS, 1, BLOCK[:3])
        + raw(FrameType.CONTINUATION, 3, BLOCK[3:], END_HEADERS),
        PROTOCOL,
    ),
    "block with DATA": (raw(FrameType.HEADERS, 1, BLOCK[:3]) + data(1), PROTOCOL),
    "block with PING": (
        raw(FrameType.HEADERS, 1, BLOCK[:3]) + raw(FrameType.PING, 0, bytes(8)),
        PROTOCOL,
    ),
    "block with an unknown frame": (raw(FrameType.HEADERS, 1, BLOCK[:3]) + raw(99, 1), PROTOCOL),
    "unknown frames": (raw(99, 1, b"x" * 99, 255) + raw(250, 0) + headers(1), FINE),
    "PUSH_PROMISE": (headers(1) + raw(FrameType.PUSH_PROMISE, 1, bytes(4) + BLOCK, 4), PROTOCOL),
    # Padding (6.1, 6.2).
    "padding": (
        raw(FrameType.HEADERS, 1, b"\2" + BLOCK + b"\0\0", PADDED | END_HEADERS)
        + raw(FrameType.DATA, 1, b"\3abc\0\0\0", PADDED),
        FINE,
    ),
    "only padding": (headers(1) + raw(FrameType.DATA, 1, b"\3\0\0\0", PADDED), FINE),
    "padding longer than DATA": (headers(1) + raw(FrameType.DATA, 1, b"\3\0\0", PADDED), PROTOCOL),
    "padding longer than HEADERS": (
        raw(FrameType.HEADERS, 1, bytes((len(BLOCK) + 1,)) + BLOCK, PADDED | END_HEADERS),
        PROTOCOL,
    ),
    "priority fields": (
        raw(FrameType.HEADERS, 1, b"\0\0\0\1\0" + BLOCK, PRIORITY | END_HEADERS),
        FINE,
    ),
    # Windows (6.9).
    "WINDOW_UPDATE of 0": (window(0, 0), PROTOCOL),
    "WINDOW_UPDATE of 0 on a stream": (headers(1) + window(1, 0), MALFORMED),
    "window overflow": (window(0, 2**31 - 1), FLOW),
    "window overflow on a stream": (
        headers(1) + window(1, 2**31 - 1),
        "stream FLOW_CONTROL_ERROR",
    ),
    "window overflow by settings": (
        headers(1) + window(1, 2**31 - 1 - 65535) + settings(s4=65536),
        FLOW,
    ),
    # Settings (6.5).
    "ENABLE_PUSH 2": (settings(s2=2), PROTOCOL),
    "ENABLE_PUSH 1": (settings(s2=1), FINE),
    "INITIAL_WINDOW_SIZE 2**31": (settings(s4=2**31), FLOW),
    "MAX_FRAME_SIZE 16383": (settings(s5=16383), PROTOCOL),
    "MAX_FRAME_SIZE 2**24": (settings(s5=2**24), PROTOCOL),
    "unknown settings": (settings(s0=1, s7=2, s65535=3), FINE),
    # Compression (RFC 7541).
    "index 0": (raw(FrameType.HEADERS, 1, b"\x80", 4), COMPRESSION),
    "index above the table": (raw(FrameType.HEADERS, 1, b"\xbe", 4), COMPRESSION),
    "cut in a string": (raw(FrameType.HEADERS, 1, b"\x00\x05abc", 4), COMPRESSION),
    "cut in a number": (raw(FrameType.HEADERS, 1, b"\xff\xff", 4), COMPRESSION),
    "a number without end": (raw(FrameType.HEADERS, 1, b"\xff" * 60_000, 4), COMPRESSION),
    "zeros without end": (raw(FrameType.HEADERS, 1, b"\xff" + b"\x80" * 60_000, 4), COMPRESSION),
    "invalid Huffman code": (
        raw(FrameType.HEADERS, 1, b"\x00\x84\xff\xff\xff\xff\x00", 4),
        COMPRESSION,
    ),
    "table above our limit": (raw(FrameType.HEADERS, 1, b"\x3f\xe2\x1f" + BLOCK, 4), COMPRESSION),
    "table of 4096 again": (raw(FrameType.HEADERS, 1, b"\x20\x3f\xe1\x1f" + BLOCK, 4), FINE),
    "table changed after a field": (raw(FrameType.HEADERS, 1, b"\x83\x20", 4), COMPRESSION),
    "table changed all the time": (raw(FrameType.HEADERS, 1, b"\x20" * 9 + BLOCK, 4), COMPRESSION),
    # Messages (8).
    "name in upper case": (request((b"Accept", b"x")), MALFORMED),
    "name with a space": (request((b"a b", b"x")), MALFORMED),
    "empty name": (request((b"", b"x")), MALFORMED),
    "value with a line feed": (request((b"a", b"x\ny")), MALFORMED),
    "value with NUL": (request((b"a", b"\0")), MALFORMED),
    "value with spaces around, as Go sends them": (request((b"a", b" x ")), FINE),
    "empty value": (request((b"a", b"")), FINE),
    "connection": (request((b"connection", b"close")), MALFORMED),
    "transfer-encoding": (request((b"transfer-encoding", b"chunked")), MALFORMED),
    "te with more than trailers": (request((b"te", b"gzip"), without=b"te"), MALFORMED),
    "pseudo-header field after others": (
        request((b":path", b"/"), without=b":path"),
        MALFORMED,
    ),
    "unknown pseudo-header field": (headers(1, [(b":foo", b"x"), *REQUEST]), MALFORMED),
    "pseudo-header field of responses": (headers(1, [(b":status", b"200"), *REQUEST]), MALFORMED),
    "two paths": (headers(1, [(b":path", b"/"), *REQUEST]), MALFORMED),
    "no method": (request(without=b":method"), MALFORMED),
    "no scheme": (request(without=b":scheme"), MALFORMED),
    "no path": (request(without=b":path"), MALFORMED),
    "empty path": (headers(1, [(b":path", b""), *REQUEST[:2]]), MALFORMED),
    "no authority": (request(without=b":authority"), FINE),
    "trailers": (headers(1) + data(1, b"x") + headers(1, [(b"a", b"b")], flags=5), FINE),
    "trailers without an end": (headers(1) + headers(1, [(b"a", b"b")]), MALFORMED),
    "pseudo-header field in trailers": (
        headers(1) + headers(1, [(b":path", b"/")], flags=5),
        MALFORMED,
    ),
    "content-length": (request((b"content-length", b"3")) + data(1, b"abc", end=True), FINE),
    "body above content-length": (request((b"content-length", b"3")) + data(1, b"abcd"), MALFORMED),
    "body below content-length": (
        request((b"content-length", b"3")) + data(1, b"ab", end=True),
        MALFORMED,
    ),
    "content-length twice": (
        request((b"content-length", b"3"), (b"content-length", b"4")),
        MALFORMED,
    ),
    "content-length without a number": (request((b"content-length", b"-1")), MALFORMED),
    "content-length without a body": (
        headers(1, [*REQUEST, (b"content-length", b"3")], flags=5),
        MALFORMED,
    ),
}


@pytest.mark.parametrize(("wire", "expected"), FRAMES.values(), ids=FRAMES.keys())
def test_server_judges_frames(wire: bytes, expected: str) -> None:
    connection = server()
    assert outcome(connection.receive(wire)) == expected
    frames = sent(connection)
    if expected.startswith("connection"):
        assert frames[-1].kind == FrameType.GOAWAY
        assert connection.receive(headers(101)) == []
    elif expected.startswith("stream"):
        assert FrameType.RST_STREAM in [each.kind for each in frames]
        assert outcome(connection.receive(headers(101))) == FINE


@pytest.mark.parametrize(("wire", "expected"), FRAMES.values(), ids=FRAMES.keys())
def test_judgement_does_not_depend_on_how_bytes_arrive(wire: bytes, expected: str) -> None:
    connection = Connection(client=False, clock=Clock())
    wire = GREETING + wire
    step = 1 if len(wire) < 1000 else 997
    last = FINE
    for at in range(0, len(wire), step):
        found = outcome(connection.receive(wire[at : at + step]))
        last = found if found != FINE else last
    assert last == expected


ANSWERS: dict[str, tuple[bytes, str]] = {
    "answer": (headers(1, RESPONSE) + data(1, b"x") + headers(1, [(b"a", b"b")], flags=5), FINE),
    "informational first": (headers(1, [(b":status", b"103")]) + headers(1, RESPONSE), FINE),
    "informational as the end": (headers(1, [(b":status", b"103")], flags=5), MALFORMED),
    "switching protocols": (headers(1, [(b":status", b"101")]), MALFORMED),
    "no status": (headers(1, RESPONSE[1:]), MALFORMED),
    "status of two digits": (headers(1, [(b":status", b"20")]), MALFORMED),
    "request instead of response": (headers(1), MALFORMED),
    "DATA before headers": (data(1, b"x"), MALFORMED),
    "pushed stream": (headers(2, RESPONSE), PROTOCOL),
    "stream that we have not opened": (headers(3, RESPONSE), PROTOCOL),
    "DATA on a stream not opened": (data(3, b"x"), PROTOCOL),
    "PUSH_PROMISE": (raw(FrameType.PUSH_PROMISE, 1, bytes(4) + BLOCK, 4), PROTOCOL),
    "ENABLE_PUSH 1": (settings(s2=1), PROTOCOL),
    "reset, then late answers": (reset(1), FINE),
}


@pytest.mark.parametrize(("wire", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_client_judges_frames(wire: bytes, expected: str) -> None:
    connection = client()
    connection.open(REQUEST)
    assert outcome(connection.receive(wire)) == expected


def test_late_frames_on_a_stream_that_we_reset_are_no_fault() -> None:
    connection = client()
    first = connection.open(REQUEST)
    connection.reset(first)
    late = headers(first, [*RESPONSE, (b"grpc-x", b"y")]) + data(first, b"x" * 9) + reset(first)
    assert connection.receive(late) == []
    second = connection.open(REQUEST)
    assert outcome(connection.receive(headers(second, RESPONSE))) == FINE


def test_fields_of_unwanted_streams_still_fill_the_table() -> None:
    """HPACK is state: a block that is skipped would shift every later one."""
    connection = server()
    connection.receive(headers(1))
    connection.reset(1)
    assert connection.receive(raw(FrameType.HEADERS, 1, b"\x40\x01x\x01y", 5)) == []
    (event,) = connection.receive(raw(FrameType.HEADERS, 3, BLOCK + b"\xbe", 4))
    assert isinstance(event, Headers)
    assert event.fields == [*REQUEST, (b"x", b"y")]


def test_end_of_stream_is_told_once() -> None:
    connection = server()
    events = connection.receive(headers(1) + data(1, b"abc") + data(1, end=True))
    assert [getattr(event, "end", None) for event in events] == [False, False, True]


def test_error_codes_are_those_of_the_rfc() -> None:
    """RFC 9113 section 7."""
    names = (
        *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"),
        *("STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR"),
        *("CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
    )
    assert {name_of(code): code for code in range(len(names))} == {
        name: code for code, name in enumerate(names)
    }
    assert name_of(len(names)) == f"error code {len(names)}"
