"""Events of a build as the progress that BuildKit's clients read [7.5]."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.buildkit.journal import Journal, LogRoom, Teller
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.gateway import WarnRequest
from pybuild.buildkit.pb.times import seconds_of
from pybuild.model.digest import Digest
from pybuild.model.events import (
    BuildWarning,
    LogStream,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from pybuild.model.span import Span
from tests.clocks import FakeClock

V = Digest.of(b"v")


def told(*events: object) -> tuple[list[pb.StatusResponse], Teller]:
    """Return the messages that a client hears of *events*."""
    found: list[pb.StatusResponse] = []

    async def run() -> Teller:
        journal = Journal.temporary()
        teller = Teller(journal, FakeClock())
        for event in events:
            teller.emit(event)  # type: ignore[arg-type]
        journal.close()
        async for message in journal.follow():
            found.append(pb.StatusResponse.FromString(message))
        journal.discard()
        return teller

    return found, asyncio.run(run())


def test_a_step_is_told_whole_each_time() -> None:
    messages, teller = told(
        VertexAdded(vertex=V, name="[1/1] RUN x", inputs=(Digest.of(b"i"),)),
        VertexStarted(vertex=V, time=1.5),
        VertexCompleted(vertex=V, time=2.5),
    )
    last = messages[-1].vertexes[0]
    assert (last.name, last.started.seconds, last.completed.nanos) == (
        "[1/1] RUN x",
        1,
        500_000_000,
    )
    assert list(last.inputs) == [Digest.of(b"i")]
    assert (teller.total, teller.completed, teller.cached) == (1, 1, 0)


def test_a_cached_step_has_both_times() -> None:
    messages, teller = told(VertexAdded(vertex=V, name="n"), VertexCached(vertex=V, time=3))
    vertex = messages[-1].vertexes[0]
    assert vertex.cached and vertex.HasField("started") and vertex.HasField("completed")
    assert teller.cached == 1


def test_the_first_failure_is_remembered_and_victims_are_not() -> None:
    other = Digest.of(b"o")
    messages, teller = told(
        VertexAdded(vertex=other, name="victim"),
        VertexAdded(vertex=V, name="culprit"),
        VertexFailed(vertex=other, time=1, error="x", cancelled=True),
        VertexFailed(vertex=V, time=1, error="exit code: 1"),
    )
    assert teller.failed == V
    assert [m.vertexes[0].error for m in messages[2:]] == ["context canceled", "exit code: 1"]


def test_a_long_log_comes_in_pieces() -> None:
    data = bytes(range(256)) * 4000
    messages, _ = told(VertexLog(vertex=V, time=1, stream=LogStream.STDERR, data=data))
    logs = [log for message in messages for log in message.logs]
    assert b"".join(log.msg for log in logs) == data
    assert all(len(log.msg) < 1 << 20 and log.stream == 2 for log in logs)


def test_transfers_are_told_seldom_but_to_their_end() -> None:
    steps = [
        VertexProgress(vertex=V, id="transferring context:", current=n, time=n / 1000)
        for n in range(1000)
    ]
    done = VertexProgress(vertex=V, id="transferring context:", current=1000, done=True, time=1)
    messages, _ = told(*steps, done)
    statuses = [status for message in messages for status in message.statuses]
    assert len(statuses) <= 13
    assert statuses[0].name == "transferring"
    assert statuses[-1].current == 1000 and statuses[-1].HasField("completed")


def test_a_step_that_ends_leaves_nothing_under_way() -> None:
    """Clients print no end of a step while something of it is open."""
    messages, _ = told(
        VertexAdded(vertex=V, name="exporting to client tarball"),
        VertexStarted(vertex=V, time=1),
        VertexProgress(vertex=V, id="sending tarball", current=5, time=1.5),
        VertexProgress(vertex=V, id="sending tarball", current=7, time=1.501),
        VertexCompleted(vertex=V, time=2),
    )
    (status,) = messages[-1].statuses
    assert status.current == 7 and status.completed.seconds == 2
    assert messages[-1].vertexes[0].HasField("completed")


def test_followers_hear_all_from_the_first_whenever_they_come() -> None:
    async def run() -> None:
        journal = Journal.temporary()
        journal.write(b"one")
        early = asyncio.create_task(_all(journal))
        await asyncio.sleep(0)
        journal.write(b"")
        journal.write(b"x" * 3_000_000)
        journal.close()
        journal.write(b"too late")
        late = await _all(journal)
        assert await early == late == [b"one", b"", b"x" * 3_000_000]
        assert b"".join(journal.pieces()).startswith(b"\3\0\0\0one\0\0\0\0")
        journal.discard()

    asyncio.run(run())


async def _all(journal: Journal) -> list[bytes]:
    return [message async for message in journal.follow()]


def test_a_warning_comes_with_the_step_it_is_about() -> None:
    """Else plain progress of clients, which prints steps that have news, never shows it."""
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    teller.emit(VertexAdded(vertex=V, name="load", inputs=()))
    teller.emit(VertexStarted(vertex=V, time=1.0))
    teller.emit(VertexCompleted(vertex=V, time=2.0))
    teller.warn(BuildWarning(rule="R", message="m", url="", spans=(Span("D", 1, 1),)), V, "D", b"")
    journal.close()

    async def run() -> list[pb.StatusResponse]:
        return [pb.StatusResponse.FromString(data) async for data in journal.follow()]

    last = asyncio.run(run())[-1]
    journal.discard()
    assert [vertex.digest for vertex in last.vertexes] == [V] == [last.warnings[0].vertex]
    assert seconds_of(last.vertexes[0].completed) == 2.0


def test_a_step_that_never_stops_talking_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pybuild.buildkit.journal.MOST_LOG_BYTES", 2 << 20)
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    other = Digest.of(b"other")
    for _ in range(50):
        piece = VertexLog(vertex=V, time=1.0, stream=LogStream.STDOUT, data=b"x" * 100_000)
        teller.emit(piece)
    teller.emit(VertexLog(vertex=other, time=1.0, stream=LogStream.STDOUT, data=b"heard"))
    journal.close()

    async def run() -> list[pb.VertexLog]:
        return [
            log
            async for data in journal.follow()
            for log in pb.StatusResponse.FromString(data).logs
        ]

    logs = asyncio.run(run())
    journal.discard()
    text = b"".join(log.msg for log in logs if log.vertex == V)
    assert text.startswith(b"x" * (2 << 20) + b"\n[output clipped, log limit 2MiB reached]")
    assert text.count(b"clipped") == 1 and len(text) < (2 << 20) + 100
    assert logs[-1].msg == b"heard"


def test_builds_of_one_owner_share_the_room_for_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress without room is left out; the messages of how steps end are not."""
    room = LogRoom(1 << 20)
    journals = [Journal.temporary(room) for _ in range(3)]
    tellers = [Teller(journal, FakeClock(1.0)) for journal in journals]
    for number in range(60):
        piece = VertexLog(vertex=V, time=1.0, stream=LogStream.STDOUT, data=b"x" * 100_000)
        tellers[number % 3].emit(piece)
        tellers[number % 3].forward_warning(WarnRequest(short=b"w" * 100_000))
    assert room.taken < 1_500_000
    for journal, teller in zip(journals, tellers, strict=True):
        teller.emit(VertexCompleted(vertex=V, time=2.0))
        data = b"".join(journal.pieces())
        assert data.count(b"output clipped, the log limit of all builds") == 1
        assert V.encode() in data[-200:]
        journal.close()
        journal.discard()
    assert room.taken == 0


@pytest.mark.slow
def test_warnings_that_bring_a_large_file_along_are_bounded() -> None:
    """A Dockerfile of megabytes with as many faults would be written once for each of them."""
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    warning = BuildWarning(rule="R", message="m", url="", spans=(Span("D", 1, 1),))
    for _ in range(1_000):
        teller.warn(warning, V, "D", bytes(4 << 20))
    written = sum(map(len, journal.pieces()))
    journal.close()
    journal.discard()
    assert written < 40 << 20 and teller.warnings == 1_000
