"""A peer that takes much may answer it with many small frames; one that takes nothing may not."""

from __future__ import annotations

from pybuild.net.http2.connection import Connection
from pybuild.net.http2.settings import Http2Limits
from tests.net.wire import RESPONSE, headers, outcome, sent, server, settings, window

MIB = 1 << 20


def _connection() -> Connection:
    connection = server(Http2Limits(patience=600))  # whose clock stands still
    connection.receive(settings(s4=MIB, s5=MIB) + window(0, MIB) + headers(1))
    connection.send_headers(1, RESPONSE)
    sent(connection)
    return connection


def test_windows_may_be_given_back_in_pieces_of_4_kib() -> None:
    connection = _connection()
    for _ in range(64):
        left = MIB
        connection.send_data(1, bytes(MIB))
        while chunks := connection.output():
            left -= sum(map(len, chunks))
        assert left <= 0
        updates = b"".join(window(0, 4096) + window(1, 4096) for _ in range(MIB // 4096))
        assert outcome(connection.receive(updates)) == "fine"


def test_windows_that_nobody_used_may_not_be_raised_without_end() -> None:
    connection = _connection()
    updates = b"".join(window(1, 1) for _ in range(50_000))
    assert outcome(connection.receive(updates)) == "connection ENHANCE_YOUR_CALM"
