"""Progress messages of servers become our events: ours as they were, BuildKit's in good order [7.5]."""

from __future__ import annotations

import io
import tempfile

from pybuild.buildkit.journal import Journal, Teller
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.ops import Position, Range, SourceInfo
from pybuild.buildkit.pb.times import timestamp
from pybuild.client.events import StatusReader, spans_of
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
from pybuild.progress.plain import PlainDisplay

A, B = Digest.of(b"a"), Digest.of(b"b")


class _Clock:
    def now(self) -> float:
        return 5.0


def read(*messages: pb.StatusResponse, reader: StatusReader | None = None) -> list[Event]:
    reader = reader or StatusReader()
    events = [event for message in messages for event in reader.feed(message)]
    return events + reader.release()


def vertex(digest: str = A, **more: object) -> pb.StatusResponse:
    times = {
        key: timestamp(float(str(more.pop(key)))) for key in ("started", "completed") if key in more
    }
    return pb.StatusResponse(vertexes=[pb.Vertex(digest=digest, name="n", **times, **more)])  # type: ignore[arg-type]


def test_our_own_events_come_back() -> None:
    sent: list[Event] = [
        VertexAdded(vertex=A, name="one"),
        VertexStarted(vertex=A, time=1.0),
        VertexLog(vertex=A, time=1.5, stream=LogStream.STDERR, data=b"\xffx\n"),
        VertexProgress(vertex=A, id="sha256:x", current=3, total=9, time=1.6),
        VertexProgress(vertex=A, id="sha256:x", current=9, total=9, done=True, time=1.9),
        VertexCompleted(vertex=A, time=2.0),
        VertexAdded(vertex=B, name="two", inputs=(A,)),
        VertexCached(vertex=B, time=3.0),
    ]
    c = Digest.of(b"c")
    sent += [
        VertexAdded(vertex=c, name="three"),
        VertexStarted(vertex=c, time=4.0),
        VertexFailed(vertex=c, time=4.5, error="no"),
    ]
    with tempfile.TemporaryFile() as file:
        journal = Journal(file)
        teller = Teller(journal, _Clock())
        for event in sent:
            teller.emit(event)
        data = io.BytesIO(b"".join(journal.pieces()))
    messages: list[pb.StatusResponse] = []
    while head := data.read(4):
        messages.append(pb.StatusResponse.FromString(data.read(int.from_bytes(head, "little"))))
    reader = StatusReader()
    assert read(*messages, reader=reader) == sent
    assert reader.failed == c
    assert reader.tail(A) == ["\ufffdx"]
    assert reader.steps() == (("one", "DONE"), ("two", "CACHED"))


def test_a_step_that_ends_and_begins_again_at_once_ends_once() -> None:
    """As BuildKit tells of a directory that it transfers."""
    moved = pb.VertexStatus(ID="moving", vertex=A, current=2, completed=timestamp(1.5))
    events = read(
        vertex(started=1.0, completed=1.1),
        vertex(started=1.2),
        pb.StatusResponse(statuses=[moved]),
        vertex(started=1.2, completed=1.6),
        vertex(started=1.7, completed=1.8),
        vertex(B, started=2.0),
    )
    assert [type(event) for event in events] == [
        VertexAdded,
        VertexStarted,
        VertexProgress,
        VertexCompleted,
        VertexAdded,
        VertexStarted,
    ]
    out = io.StringIO()
    display = PlainDisplay(out)
    for event in events:
        display.show(event)
    assert out.getvalue().count("#1 n") == 1 and out.getvalue().count("DONE") == 1


def test_what_was_told_to_be_done_without_amounts_is_a_line() -> None:
    status = pb.VertexStatus(ID="naming to x", vertex=A, completed=timestamp(1.0))
    (event,) = read(pb.StatusResponse(statuses=[status]))
    assert isinstance(event, VertexProgress) and event.done
    out = io.StringIO()
    PlainDisplay(out).show(event)
    assert out.getvalue().endswith("#1 naming to x done\n")
    status.ClearField("completed")
    assert read(pb.StatusResponse(statuses=[status])) == []


def test_victims_are_told_from_failures() -> None:
    reader = StatusReader()
    events = read(
        vertex(started=1.0, completed=2.0, error="process: context canceled"),
        vertex(B, started=1.0, completed=2.0, error="exit code: 1"),
        reader=reader,
    )
    cancelled = [event.cancelled for event in events if isinstance(event, VertexFailed)]
    assert cancelled == [True, False] and reader.failed == B


def test_warnings_are_taken_apart() -> None:
    warning = pb.VertexWarning(
        short=b"FromAsCasing: 'as' and 'FROM' differ (line 2)",
        url="u",
        detail=[b"why"],
        info=SourceInfo(filename="Dockerfile"),
        ranges=[Range(start=Position(line=2), end=Position(line=2))],
    )
    plain = pb.VertexWarning(short=b"something: odd, it seems")
    reader = StatusReader({"Dockerfile": "sub/Dockerfile"})
    assert read(pb.StatusResponse(warnings=[warning, plain]), reader=reader) == [
        BuildWarning(
            message="'as' and 'FROM' differ",
            rule="FromAsCasing",
            url="u",
            spans=(Span("sub/Dockerfile", 2, 2),),
            detail=("why",),
        ),
        BuildWarning(message="odd, it seems", rule="something"),
    ]


def test_ranges_of_lines_in_a_row_are_one_span() -> None:
    ranges = [Range(start=Position(line=n), end=Position(line=n)) for n in (3, 4, 5, 9, 0)]
    assert spans_of("f", ranges) == (Span("f", 3, 5), Span("f", 9, 9))


def test_a_clock_that_is_wrong_is_corrected_by_what_it_says() -> None:
    reader = StatusReader()
    reader.server_time("2026-01-01T00:00:00.123456789Z", 1000.0)
    reader.server_time("nonsense", 1.0)
    theirs = 1_767_225_600.123456
    (_, started) = read(vertex(started=theirs + 1), reader=reader)
    assert isinstance(started, VertexStarted) and abs(started.time - 1001.0) < 0.01


def test_a_step_may_be_called_anything() -> None:
    added, _ = read(vertex("\N{SNOWMAN}", started=1.0))
    assert isinstance(added, VertexAdded) and added.vertex.startswith("sha256:")
