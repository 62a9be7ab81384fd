"""A build that has been, with its events, as the tests of the history tell it."""

from __future__ import annotations

from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.explain.difference import Difference
from pybuild.explain.report import BuildReport, Miss, Reason, Status, StepReport
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

AT = 1_000_000_000.0
BASE, FAST, SLOW, LAST, EXPORT, NEVER = (Digest.of(f"{n}".encode()) for n in range(6))
RECORD = BuildRecord(
    id="0d0d0d0d", ref="abc", name="app", status=BuildStatus.COMPLETED, at=AT, seconds=12.0, context="/src",
    dockerfile="Dockerfile", target="t", args=("V=1", "W="), tags=("app:1",), total=5, completed=4, cached=1,
    warnings=1, images=("sha256:i",),
)  # fmt: skip
MISS = Miss(
    reason=Reason.CHANGED, nearest="n", differences=(Difference(field="env.V", was="0", now="1"),)
)
REPORT = BuildReport(
    id="0d0d0d0d", at=AT, seconds=12.0, context="/src", dockerfile="Dockerfile",
    steps=(
        StepReport(number=1, name="[slow 1/1] RUN make", status=Status.RAN, seconds=6.0, cpu_seconds=11.25, peak_memory_bytes=70_000_000, key="sha256:k", miss=MISS),
        StepReport(number=2, name="[fast 1/1] RUN lint", status=Status.CACHED),
    ),
)  # fmt: skip


def events(slow: float = 6.0) -> list[Event]:
    """Return the events of a build: a base, a fast and a slow step on it, one that joins them, and the export.

    Args:
        slow: the seconds of the slow step, by which all after it comes later.
    """
    end = 3.0 + slow
    said: list[Event] = [
        VertexAdded(vertex=BASE, name="[internal] load base"),
        VertexAdded(vertex=FAST, name="[fast 1/1] RUN lint", inputs=(BASE,), stage="fast"),
        VertexAdded(vertex=SLOW, name="[slow 1/1] RUN make", inputs=(BASE,), stage="slow"),
        VertexAdded(vertex=LAST, name="[stage-2 1/1] COPY --from=slow / /", inputs=(FAST, SLOW), stage="stage-2"),
        VertexAdded(vertex=LAST, name="said twice"),
        VertexStarted(vertex=BASE, time=AT + 1.0),
        VertexProgress(vertex=BASE, id="sha256:l", current=300, total=1000, time=AT + 1.5),
        VertexProgress(vertex=BASE, id="sha256:l", current=1000, total=1000, done=True, time=AT + 2.0),
        VertexProgress(vertex=BASE, id="files", current=7, done=True, unit="files", time=AT + 2.0),
        VertexCompleted(vertex=BASE, time=AT + 3.0),
        VertexCached(vertex=FAST, time=AT + 3.0),
        VertexStarted(vertex=SLOW, time=AT + 3.0),
        VertexLog(vertex=SLOW, time=AT + 4.0, stream=LogStream.STDOUT, data=b"compiling\n"),
        BuildWarning(message="mind"),
        VertexLog(vertex=SLOW, time=AT + 5.0, stream=LogStream.STDERR, data=b"done\n"),
        VertexCompleted(vertex=SLOW, time=AT + end),
        VertexCompleted(vertex=NEVER, time=AT + 99.0),
        VertexStarted(vertex=LAST, time=AT + end + 0.5),
        VertexCompleted(vertex=LAST, time=AT + end + 1.0),
        VertexAdded(vertex=EXPORT, name="exporting to image"),
        VertexStarted(vertex=EXPORT, time=AT + end + 1.0),
        VertexCompleted(vertex=EXPORT, time=AT + end + 2.0),
    ]  # fmt: skip
    return said


def failing() -> list[Event]:
    """Return the events of a build whose slow step fails while the fast one runs."""
    return [
        *events()[:4],
        VertexStarted(vertex=BASE, time=AT + 1.0),
        VertexCompleted(vertex=BASE, time=AT + 2.0),
        VertexStarted(vertex=SLOW, time=AT + 2.0),
        VertexStarted(vertex=FAST, time=AT + 2.5),
        VertexLog(vertex=SLOW, time=AT + 3.0, stream=LogStream.STDOUT, data=b"<script>alert(1)</script>\n"),
        VertexFailed(vertex=SLOW, time=AT + 4.0, error="exit code: 1"),
        VertexFailed(vertex=FAST, time=AT + 4.0, error="canceled", cancelled=True),
    ]  # fmt: skip
