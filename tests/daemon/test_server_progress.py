"""Progress and traces of a server's builds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from pybuild.buildkit.journal import Journal, LogRoom, Teller, ranges_of
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.gateway import WarnRequest
from pybuild.buildkit.pb.ops import SourceInfo
from pybuild.buildkit.pb.times import timestamp
from pybuild.buildkit.trace import Trace
from pybuild.model.digest import Digest
from pybuild.model.events import (
    BuildWarning,
    Event,
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
from tests.daemon.vertices import V, W

# --- progress -------------------------------------------------------------------------------------


def told(*events: Event, room: LogRoom | None = None, now: float = 50.0) -> list[pb.StatusResponse]:
    journal = Journal.temporary(room)
    teller = Teller(journal, FakeClock(now))
    for event in events:
        teller.emit(event)
    return heard(journal)


def heard(journal: Journal) -> list[pb.StatusResponse]:
    async def run() -> list[pb.StatusResponse]:
        return [pb.StatusResponse.FromString(data) async for data in journal.follow()]

    journal.close()
    messages = asyncio.run(run())
    journal.discard()
    return messages


def test_a_step_is_added_once_and_begins_again_without_an_end() -> None:
    messages = told(
        VertexAdded(vertex=V, name="one"),
        VertexAdded(vertex=V, name="two"),
        VertexStarted(vertex=V, time=1.0),
        VertexCompleted(vertex=V, time=2.0),
        VertexStarted(vertex=V, time=3.0),
    )
    assert [message.vertexes[0].name for message in messages] == ["one"] * 4
    last = messages[-1].vertexes[0]
    assert last.started == timestamp(3.0) and not last.HasField("completed")
    (unknown,) = told(VertexCompleted(vertex=W, time=2.0))
    assert unknown.vertexes[0].started == unknown.vertexes[0].completed == timestamp(2.0)


def test_counts_of_steps_are_those_of_the_history() -> None:
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    for event in (
        VertexAdded(vertex=V, name="v"),
        VertexCached(vertex=V, time=1.0),
        VertexFailed(vertex=W, time=2.0, error="first"),
        VertexFailed(vertex=Digest.of(b"x"), time=2.0, error="second"),
    ):
        teller.emit(event)
    assert (teller.total, teller.completed, teller.cached, teller.failed) == (3, 3, 1, W)
    errors = [message.vertexes[0].error for message in heard(journal)]
    assert errors == ["", "", "first", "second"]


def test_progress_is_told_every_tenth_of_a_second() -> None:
    def at(time: float, current: int, **more: object) -> VertexProgress:
        return VertexProgress(vertex=V, id="copying files", current=current, time=time, **more)  # type: ignore[arg-type]

    messages = told(
        at(1.0, 1), at(1.05, 2), at(1.125, 3, total=9), at(1.2, 4), at(1.21, 5, done=True)
    )
    statuses = [message.statuses[0] for message in messages]
    assert [status.current for status in statuses] == [1, 3, 5]
    assert [status.total for status in statuses] == [0, 9, 0]
    assert {(status.ID, status.name) for status in statuses} == {("copying files", "copying")}
    assert {status.started.seconds for status in statuses} == {1}
    assert [status.HasField("completed") for status in statuses] == [False, False, True]
    (other,) = told(VertexProgress(vertex=V, id="sha256:x", current=1))
    assert (other.statuses[0].name, other.statuses[0].timestamp.seconds) == ("sha256:x", 50)


def test_what_ended_before_is_no_more_under_way() -> None:
    messages = told(
        VertexProgress(vertex=V, id="a", current=1, done=True, time=1.0),
        VertexProgress(vertex=V, id="b", current=1, time=1.0),
        VertexProgress(vertex=W, id="c", current=1, time=1.0),
        VertexCompleted(vertex=V, time=2.0),
    )
    assert [status.ID for status in messages[-1].statuses] == ["b"]


def test_each_stream_has_its_number_and_pieces_of_a_quarter_mebibyte() -> None:
    most = 256 << 10
    streams = (LogStream.STDOUT, LogStream.STDERR)
    messages = told(
        *(
            VertexLog(vertex=V, time=1.5, stream=stream, data=b"x" * (most + 1))
            for stream in streams
        )
    )
    logs = [message.logs[0] for message in messages]
    assert [(log.stream, len(log.msg)) for log in logs] == [(1, most), (1, 1), (2, most), (2, 1)]
    assert {log.timestamp.nanos for log in logs} == {500_000_000}
    assert told(VertexLog(vertex=V, time=1.0, stream=LogStream.STDOUT, data=b"")) == []


def test_the_room_of_all_logs_is_full_when_more_than_that_is_taken() -> None:
    room = LogRoom(12)
    journal = Journal.temporary(room)
    journal.write(b"12345678")
    assert (room.taken, journal.is_full) == (12, False)
    journal.write(b"")
    assert (room.taken, journal.is_full) == (16, True)
    journal.close()
    journal.write(b"late")
    assert room.taken == 16
    journal.discard()
    assert room.taken == 0


def test_a_journal_is_read_again_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "status"
    path.write_bytes(b"\3\0\0\0one\0\0\0\0\2\0\0\0")  # the last one is cut

    async def run() -> list[bytes]:
        journal = Journal.stored(str(path))
        try:
            return [message async for message in journal.follow()]
        finally:
            journal.discard()

    assert asyncio.run(run()) == [b"one", b""]


def test_warnings_have_the_words_that_every_client_shows() -> None:
    journal = Journal.temporary()
    teller = Teller(journal, FakeClock(1.0))
    spans = (Span("D", 3, 4), Span("D", 9, 9))
    teller.warn(
        BuildWarning(rule="R", message="m", url="u", spans=spans, detail=("d",)), V, "D", b"text"
    )
    teller.warn(BuildWarning(message="plain"), V, "D", b"text")
    info = SourceInfo(filename="F")
    teller.forward_warning(WarnRequest(digest=V, level=2, short=b"s", url="w", info=info))
    teller.forward_warning(WarnRequest(digest=V, short=b"t"))
    first, second, third, fourth = (message.warnings[0] for message in heard(journal))
    assert (first.short, first.url, first.level, list(first.detail)) == (
        b"R: m (line 3)", "u", 1, [b"d"]
    )  # fmt: skip
    assert [one.start.line for one in first.ranges] == [3, 4, 9]
    assert (first.info.filename, first.info.data, first.info.language) == (
        "D",
        b"text",
        "Dockerfile",
    )
    assert second.short == b"plain" and not second.HasField("info")
    assert (third.short, third.level, third.url, third.info.filename) == (b"s", 2, "w", "F")
    assert fourth.short == b"t" and not fourth.HasField("info")
    assert teller.warnings == 4


def test_a_span_is_a_range_for_each_of_its_first_lines() -> None:
    lines = [one.start.line for one in ranges_of([Span("D", 5, 1000)])]
    assert lines == list(range(5, 106))
    assert ranges_of([]) == []
    (only,) = ranges_of([Span("D", 7, 7)])
    assert only.start.line == only.end.line == 7


# --- traces ---------------------------------------------------------------------------------------


def test_a_step_has_the_times_that_are_known() -> None:
    trace = Trace("ref", 10.0)
    for digest, name in ((V, "started"), (W, "cached"), (Digest.of(b"x"), "never")):
        trace.watch(VertexAdded(vertex=digest, name=name))
    trace.watch(VertexAdded(vertex=V, name="again"))
    trace.watch(VertexStarted(vertex=V, time=11.0))
    trace.watch(VertexCached(vertex=W, time=12.0))
    trace.watch(VertexStarted(vertex=Digest.of(b"unknown"), time=1.0))
    spans = [json.loads(line) for line in trace.document(13.0).splitlines()]
    assert [(one["Name"], one["StartTime"][17:22], one["EndTime"][17:22]) for one in spans] == [
        ("started", "11.00", "13.00"),
        ("cached", "12.00", "12.00"),
        ("moby.buildkit.v1.Control/Solve", "10.00", "13.00"),
    ]
    assert [(one["SpanKind"], one["ChildSpanCount"]) for one in spans] == [(1, 0), (1, 0), (2, 2)]
    facts = {one["Key"]: one["Value"] for one in spans[-1]["Attributes"]}
    assert facts["ref"] == {"Type": "STRING", "Value": "ref"}
    assert len(spans[0]["SpanContext"]["TraceID"]) == 32 and Trace("ref", 1.0).id == trace.id
    assert Trace("other", 10.0).id != trace.id


def test_no_span_ends_before_it_begins() -> None:
    (span,) = Trace("ref", 10.0).document(9.0).splitlines()
    assert json.loads(span)["EndTime"] == json.loads(span)["StartTime"]
