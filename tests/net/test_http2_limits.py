"""Floods and endless things: ended by the right code, and never held in memory."""

from __future__ import annotations

import tracemalloc

import pytest

from pybuild.net.http2.compression import encode
from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import ErrorCode, StreamGone
from pybuild.net.http2.events import GoneAway, Headers, Ponged, Reset
from pybuild.net.http2.frames import FrameType, frame
from pybuild.net.http2.settings import Http2Limits
from tests.net.wire import (
    END_HEADERS,
    END_STREAM,
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

CALM = "connection ENHANCE_YOUR_CALM"
PING = frame(FrameType.PING, 0, 0, bytes(8))

FLOODS = {
    "PING": PING,
    "SETTINGS": settings(s4=1) + settings(s4=2),
    "empty DATA": data(1),
    "PRIORITY": frame(FrameType.PRIORITY, 0, 1, bytes(5)),
    "WINDOW_UPDATE": window(0, 1),
    "unknown frames": frame(77, 0, 0),
    "GOAWAY": frame(FrameType.GOAWAY, 0, 0, bytes(8)),
}


@pytest.mark.parametrize("wire", FLOODS.values(), ids=FLOODS.keys())
def test_flood_ends_the_connection(wire: bytes) -> None:
    connection = server()
    connection.receive(headers(1))
    for _ in range(30_000):
        found = outcome(connection.receive(wire))
        connection.output()
        if found != "fine":
            assert found == CALM
            return
    raise AssertionError("a flood went on")


def test_time_and_useful_frames_forgive() -> None:
    clock = Clock()
    connection = server(clock=clock)
    connection.receive(headers(1))
    for _ in range(5_000):
        clock.now += 0.01
        assert outcome(connection.receive(PING)) == "fine"
        connection.output()
    for _ in range(5_000):
        assert outcome(connection.receive(data(1, b"x") + PING)) == "fine"
        connection.consumed(1, 1)
        connection.output()


def test_peer_that_asks_and_does_not_read_is_cut_off() -> None:
    """However useful the rest of its frames may be."""
    connection = server(Http2Limits(queued_control=50, patience=1_000_000))
    assert outcome(connection.receive(PING * 50)) == "fine"
    assert outcome(connection.receive(PING)) == CALM
    assert connection.out.size < 2_000


def test_answers_that_were_read_count_no_longer() -> None:
    connection = server(Http2Limits(queued_control=50, patience=1_000_000))
    for _ in range(3):
        assert outcome(connection.receive(PING * 50)) == "fine"
        assert len(sent(connection)) == 50


def test_nothing_is_sent_on_a_stream_after_its_end() -> None:
    connection = server()
    connection.receive(headers(1) + headers(3, flags=END_HEADERS | END_STREAM))
    connection.send_headers(1, RESPONSE)
    connection.send_data(1, b"x" * 100_000, end=True)  # the end waits behind a window
    with pytest.raises(StreamGone):
        connection.send_data(1, b"more")
    connection.send_headers(3, RESPONSE)
    connection.send_data(3, end=True)
    with pytest.raises(StreamGone):
        connection.send_data(3, b"more")
    with pytest.raises(StreamGone):
        connection.send_data(5, b"of no stream")


def test_nothing_is_sent_on_a_connection_that_failed() -> None:
    connection = server()
    connection.receive(headers(1))
    assert outcome(connection.receive(data(0))) == "connection PROTOCOL_ERROR"
    with pytest.raises(StreamGone):
        connection.send_headers(1, RESPONSE)


def test_nothing_is_sent_after_a_request_without_a_body() -> None:
    connection = client()
    stream_id = connection.open(REQUEST, end=True)
    with pytest.raises(StreamGone):
        connection.send_data(stream_id, b"more")


def test_rapid_reset_ends_the_connection() -> None:
    connection = server()
    for number in range(1, 4_000, 2):
        found = outcome(connection.receive(headers(number) + reset(number)))
        connection.output()
        if found != "fine":
            assert found == CALM
            assert number > 1_500
            return
    raise AssertionError("rapid reset went on")


def test_streams_above_the_limit_are_refused_and_later_ones_taken() -> None:
    connection = server(Http2Limits(streams=2))
    events = connection.receive(headers(1) + headers(3) + headers(5))
    assert [event.stream_id for event in events if isinstance(event, Headers)] == [1, 3]
    (refusal,) = sent(connection)
    assert (refusal.kind, refusal.stream_id) == (FrameType.RST_STREAM, 5)
    assert int.from_bytes(refusal.payload, "big") == ErrorCode.REFUSED_STREAM
    assert connection.receive(data(5, b"late")) == []
    connection.receive(reset(1))
    assert isinstance(connection.receive(headers(7))[0], Headers)


def test_header_list_above_the_limit_ends_the_connection() -> None:
    fields = [*REQUEST, *((b"x-%d" % number, b"y" * 100) for number in range(500))]
    assert outcome(server().receive(headers(1, fields))) == CALM


def test_small_block_that_decodes_to_much_ends_the_connection() -> None:
    """An indexed field of 4 KB costs one byte each time it is named."""
    block = b"\x40\x01a\x7f\x81\x1e" + b"x" * 4_000 + b"\xbe" * 1_000
    assert outcome(server().receive(frame(FrameType.HEADERS, END_HEADERS, 1, block))) == CALM


def test_endless_continuations_end_the_connection() -> None:
    for piece in (b"", b"\x00\x01a\x01b", bytes(16_000)):
        connection = server()
        connection.receive(frame(FrameType.HEADERS, 0, 1, encode(REQUEST)))
        found = "fine"
        for _ in range(100):
            if found == "fine":
                found = outcome(connection.receive(frame(FrameType.CONTINUATION, 0, 1, piece)))
        assert found == CALM


def test_large_frames_are_refused_by_their_header() -> None:
    connection = server()
    announced = (1 << 20).to_bytes(3, "big") + b"\x01\x04\0\0\0\1"
    assert outcome(connection.receive(announced)) == CALM


@pytest.mark.slow
def test_unread_bodies_are_bounded_by_the_windows() -> None:
    connection = server()
    tracemalloc.start()
    try:
        connection.receive(b"".join(headers(1 + 2 * number) for number in range(10)))
        piece = bytes(16_000)
        for number in range(10_000):
            connection.receive(data(1 + 2 * (number % 10), piece))
            if connection.failed:
                break
        assert connection.failed
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_remembering_closed_streams_takes_bounded_memory() -> None:
    clock = Clock()
    connection = server(clock=clock)
    for number in range(1, 40_000, 2):
        clock.now += 1
        connection.receive(headers(number))
        connection.reset(number)
        connection.output()
    assert not connection.streams
    # What comes late is let pass, also on streams that are forgotten by now.
    assert connection.receive(data(1, b"x") + data(39_999, b"x")) == []


# Ending in peace.


def test_server_says_goodbye_and_finishes_what_it_has() -> None:
    connection = server()
    connection.receive(headers(1))
    connection.go_away()
    (goodbye,) = sent(connection)
    assert (goodbye.kind, goodbye.payload) == (FrameType.GOAWAY, b"\0\0\0\1" + bytes(4))
    late = headers(3, [*REQUEST, (b"a", b"b")]) + data(3, b"x") + reset(3) + window(3, 1)
    assert connection.receive(late) == []
    connection.send_headers(1, RESPONSE)
    connection.answer(1, [(b"grpc-status", b"0")])
    assert FrameType.HEADERS in [each.kind for each in sent(connection)]


def test_client_keeps_the_streams_that_a_leaving_server_took() -> None:
    connection = client()
    first, second = connection.open(REQUEST), connection.open(REQUEST)
    wire = frame(FrameType.GOAWAY, 0, 0, first.to_bytes(4, "big") + bytes(4) + b"bye")
    events = connection.receive(wire)
    assert events == [
        GoneAway(first, 0, b"bye"),
        Reset(second, ErrorCode.REFUSED_STREAM, by_peer=True),
    ]
    with pytest.raises(StreamGone):
        connection.open(REQUEST)
    assert outcome(connection.receive(headers(first, RESPONSE))) == "fine"


def test_pings_are_answered_both_ways() -> None:
    ours, theirs = client(), server()
    ours.ping(b"12345678")
    assert theirs.receive(b"".join(ours.output())) == []
    assert ours.receive(b"".join(theirs.output())) == [Ponged(b"12345678")]


def test_peer_with_a_smaller_table_is_told_once_that_we_use_none() -> None:
    connection = Connection(client=True, clock=Clock())
    connection.receive(settings(s1=0))
    sent(connection)
    connection.open(REQUEST)
    connection.open(REQUEST)
    first, second = sent(connection)
    assert first.payload == b"\x20" + second.payload
