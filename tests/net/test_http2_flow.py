"""Flow control both ways, turns between streams, and a transport that takes no more."""

from __future__ import annotations

import random

from pybuild.net.http2.connection import Connection
from pybuild.net.http2.errors import ErrorCode, StreamGone
from pybuild.net.http2.events import Data, Headers, Reset
from pybuild.net.http2.frames import FrameType, frame
from pybuild.net.http2.settings import Http2Limits
from tests.net.wire import (
    END_STREAM,
    GREETING,
    PADDED,
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

SMALL = Http2Limits(stream_window=65_535, connection_window=131_072)


def bodies(connection: Connection) -> dict[int, int]:
    """Return how many bytes of DATA are sent now, by stream."""
    sizes: dict[int, int] = {}
    for each in sent(connection):
        if each.kind == FrameType.DATA:
            sizes[each.stream_id] = sizes.get(each.stream_id, 0) + len(each.payload)
    return sizes


def answering(*streams: int) -> Connection:
    """Return a server that has begun to answer."""
    connection = server()
    for stream_id in streams:
        connection.receive(headers(stream_id))
        connection.send_headers(stream_id, RESPONSE)
    sent(connection)
    return connection


def test_body_stops_at_the_windows_and_goes_on_when_they_grow() -> None:
    connection = answering(1)
    assert connection.send_data(1, bytes(100_000)) == 100_000 - 65_535
    assert bodies(connection) == {1: 65_535}
    connection.receive(window(1, 10))
    assert bodies(connection) == {}
    connection.receive(window(0, 25))
    assert bodies(connection) == {1: 10}
    connection.receive(window(1, 100_000) + window(0, 100_000))
    assert bodies(connection) == {1: 100_000 - 65_535 - 10}
    assert connection.queued(1) == 0
    assert connection.out.drained == [1]


def test_frames_are_no_larger_than_the_peer_takes() -> None:
    connection = answering(1)
    connection.receive(window(0, 2**20) + settings(s4=2**20, s5=20_000))
    sent(connection)
    connection.send_data(1, b"ab", bytes(50_000), b"", b"cd")
    frames = sent(connection)
    assert [len(each.payload) for each in frames] == [20_000, 20_000, 10_004]
    assert b"".join(each.payload for each in frames) == b"ab" + bytes(50_000) + b"cd"


def test_smaller_initial_window_makes_windows_negative() -> None:
    connection = answering(1)
    connection.send_data(1, bytes(60_000))
    sent(connection)
    connection.receive(settings(s4=10_000))
    assert connection.send_data(1, bytes(5_000)) == 5_000
    connection.receive(window(1, 50_000))  # brings it to 0
    assert bodies(connection) == {}
    connection.receive(window(1, 1))
    assert bodies(connection) == {1: 1}
    connection.receive(settings(s4=20_000))
    assert bodies(connection) == {1: 4_999}


def test_initial_window_holds_for_streams_to_come_only_once() -> None:
    connection = server()
    connection.receive(settings(s4=5) + headers(1) + settings(s4=3, s3=7) + headers(3))
    for stream_id in (1, 3):
        connection.send_headers(stream_id, RESPONSE)
        connection.send_data(stream_id, bytes(9))
    assert bodies(connection) == {1: 3, 3: 3}


def test_empty_end_needs_no_window() -> None:
    connection = client()
    connection.receive(settings(s4=0))
    stream_id = connection.open(REQUEST)
    sent(connection)
    connection.send_data(stream_id, b"", end=True)
    (frame_,) = sent(connection)
    assert (frame_.kind, frame_.flags, frame_.payload) == (FrameType.DATA, END_STREAM, b"")


def test_end_goes_with_the_last_byte() -> None:
    connection = client()
    stream_id = connection.open(REQUEST)
    sent(connection)
    connection.send_data(stream_id, bytes(20_000), end=True)
    assert [each.flags for each in sent(connection)] == [0, END_STREAM]


def test_trailers_follow_the_queue() -> None:
    connection = answering(1)
    connection.send_data(1, bytes(70_000))
    connection.answer(1, [(b"grpc-status", b"0")])
    assert {each.kind for each in sent(connection)} == {FrameType.DATA}
    connection.receive(data(1, end=True) + window(0, 99_999) + window(1, 99_999))
    kinds = [each.kind for each in sent(connection)]
    assert kinds == [FrameType.DATA, FrameType.HEADERS]
    assert not connection.streams


def test_answer_at_once_drops_the_queue() -> None:
    connection = answering(1)
    connection.send_data(1, bytes(70_000))
    sent(connection)
    connection.answer(1, [(b"grpc-status", b"4")], at_once=True)
    assert [each.kind for each in sent(connection)] == [FrameType.HEADERS, FrameType.RST_STREAM]


def test_peer_that_has_not_finished_is_told_that_nothing_more_is_wanted() -> None:
    connection = answering(1)
    connection.answer(1, [(b"grpc-status", b"0")])
    last = sent(connection)[-1]
    assert (last.kind, last.payload) == (FrameType.RST_STREAM, bytes(4))
    assert connection.receive(data(1, b"late", end=True)) == []


def test_streams_take_turns() -> None:
    connection = answering(1, 3, 5)
    connection.out.held = True
    for stream_id in (1, 3, 5):
        connection.send_data(stream_id, bytes(60_000))
    connection.out.held = False
    turns = [each.stream_id for each in sent(connection)]
    assert turns[:4] == [1, 3, 5, 1]
    connection.receive(window(0, 10**6))
    sent(connection)
    assert not any(connection.queued(stream_id) for stream_id in (1, 3, 5))


def test_stream_without_window_does_not_stop_the_others() -> None:
    connection = answering(1, 3)
    connection.receive(window(0, 10**6))
    connection.send_data(1, bytes(100_000))
    connection.send_data(3, bytes(1_000))
    assert bodies(connection) == {1: 65_535, 3: 1_000}


def test_held_transport_gets_no_bodies_but_control_frames() -> None:
    connection = answering(1)
    connection.out.held = True
    assert connection.send_data(1, b"x" * 10) == 10
    connection.receive(frame(FrameType.PING, 0, 0, b"12345678"))
    assert [each.kind for each in sent(connection)] == [FrameType.PING]
    connection.out.held = False
    assert bodies(connection) == {1: 10}


def test_only_so_much_is_made_ready_ahead_of_the_transport() -> None:
    connection = answering(1)
    connection.receive(window(0, 2**30) + settings(s4=2**30))
    sent(connection)
    assert connection.send_data(1, bytes(8 << 20)) > 7 << 20
    assert connection.out.size < 1 << 20


def test_reset_drops_what_is_queued() -> None:
    connection = answering(1)
    connection.send_data(1, bytes(100_000))
    sent(connection)
    assert connection.receive(reset(1)) == [Reset(1, ErrorCode.CANCEL, by_peer=True)]
    connection.receive(window(0, 100_000))
    assert bodies(connection) == {}
    assert connection.queued(1) == 0
    try:
        connection.send_data(1, b"x")
    except StreamGone:
        return
    raise AssertionError("sending on a stream that was reset")


# What we let the peer send.


def test_window_comes_back_as_the_application_reads() -> None:
    connection = server(SMALL)
    connection.receive(headers(1) + data(1, bytes(16_000)) * 3)
    assert sent(connection) == []
    connection.consumed(1, 16_000)
    assert sent(connection) == []
    connection.consumed(1, 32_000)
    updates = {each.stream_id: int.from_bytes(each.payload, "big") for each in sent(connection)}
    assert updates == {1: 48_000, 0: 48_000}


def test_padding_comes_back_by_itself() -> None:
    connection = server(SMALL)
    connection.receive(headers(1))
    for _ in range(1_000):
        events = connection.receive(frame(FrameType.DATA, PADDED, 1, b"\xfe" + bytes(254)))
        assert outcome(events) == "fine"
        sent(connection)


def test_data_of_streams_that_are_over_comes_back_by_itself() -> None:
    connection = server(SMALL)
    connection.receive(headers(1))
    connection.reset(1)
    for _ in range(100):
        assert outcome(connection.receive(data(1, bytes(4_000)))) == "fine"
        sent(connection)


def test_more_than_the_window_of_a_stream_resets_it() -> None:
    connection = server(SMALL)
    wire = headers(1) + data(1, bytes(40_000)) * 2
    assert outcome(connection.receive(wire)) == "stream FLOW_CONTROL_ERROR"


def test_more_than_the_window_of_the_connection_ends_it() -> None:
    connection = server(SMALL)
    wire = b"".join(headers(at) + data(at, bytes(60_000)) for at in (1, 3, 5))
    assert outcome(connection.receive(wire)) == "connection FLOW_CONTROL_ERROR"


def test_connections_tell_their_limits() -> None:
    connection = Connection(client=False, clock=Clock())
    greeting, update = sent(connection)
    pairs = {greeting.payload[at + 1]: greeting.payload[at + 2 : at + 6] for at in range(0, 24, 6)}
    told = {key: int.from_bytes(value, "big") for key, value in pairs.items()}
    assert told == {3: 256, 4: 16 << 20, 5: 1 << 20, 6: 64 << 10}
    assert int.from_bytes(update.payload, "big") + 65_535 == 64 << 20


def test_two_connections_carry_random_bodies_in_random_pieces() -> None:
    rng = random.Random(7)
    limits = Http2Limits(stream_window=70_000, connection_window=90_000, frame_bytes=16_384)
    ours = Connection(client=True, limits=limits, clock=Clock())
    theirs = Connection(client=False, limits=limits, clock=Clock())
    streams = {ours.open(REQUEST): rng.randbytes(rng.randrange(300_000)) for _ in range(5)}
    for stream_id, body in streams.items():
        ours.send_data(stream_id, body, end=True)
    got = {stream_id: b"" for stream_id in streams}
    ended: set[int] = set()
    for _ in range(100_000):
        wire = b"".join(ours.output())
        while wire:
            size = rng.choice((1, 7, 1_000, 50_000))
            for event in theirs.receive(wire[:size]):
                if isinstance(event, Data):
                    got[event.stream_id] += b"".join(event.pieces)
                    theirs.consumed(event.stream_id, event.size)
                assert isinstance(event, Data | Headers)
                if event.end:
                    ended.add(event.stream_id)
            wire = wire[size:]
        assert ours.receive(b"".join(theirs.output())) == []
        if len(ended) == len(streams):
            break
    assert got == streams


def test_greeting_may_come_byte_by_byte() -> None:
    connection = Connection(client=False, clock=Clock())
    wire = GREETING + headers(1)
    events = [event for byte in wire for event in connection.receive(bytes((byte,)))]
    assert [type(event) for event in events] == [Headers]
