"""From the progress that a server tells to our events, for the same displays as ever [7.5]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.ops import Range
from pybuild.buildkit.pb.times import seconds_of
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

_TAIL_BYTES, _TAIL_LINES = 16 << 10, 20
_SHORT = re.compile(r"(?:(\w+): )?(.*?)(?: \(line \d+\))?\Z", re.DOTALL)
_CANCELED = "context canceled"
_SKEW_S = 1.0


class StatusReader:
    """Takes the messages of one build's `Status`.

    BuildKit ends a step of its own, such as the transfer of a directory, several times, and begins it
    again at once. So the end of a step is held back until something else happens.

    Attributes:
        failed: the first step that failed by itself.
        warnings: all so far.

    Args:
        filenames: people's names of files, by the server's names.
    """

    def __init__(self, filenames: dict[str, str] | None = None) -> None:
        self._filenames = filenames or {}
        self._names: dict[Digest, str] = {}
        self._ended: dict[Digest, str] = {}
        self._started: dict[Digest, float] = {}
        self._tails: dict[Digest, bytearray] = {}
        self._held: list[Event] = []
        self._held_for: Digest | None = None
        self._offset_s = 0.0
        self.failed: Digest | None = None
        self.warnings: list[BuildWarning] = []

    def server_time(self, text: str, now: float) -> None:
        """Take the time of the server's clock, so that its times become ours; nothing if garbled."""
        try:
            # Python 3.11 reads at most microseconds.
            theirs = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
        except (ValueError, OverflowError):
            return
        if abs(now - theirs) > _SKEW_S:
            self._offset_s = now - theirs

    def feed(self, message: pb.StatusResponse) -> Iterator[Event]:
        """Yield the new events in *message*."""
        for vertex in message.vertexes:
            yield from self._vertex(vertex)
        for status in message.statuses:
            yield from self._status(status)
        for log in message.logs:
            digest = _digest(log.vertex)
            yield from self._others(digest)
            self._keep(digest, log.msg)
            stream = LogStream.STDERR if log.stream == 2 else LogStream.STDOUT
            time = self._time(seconds_of(log.timestamp))
            yield VertexLog(vertex=digest, time=time, stream=stream, data=log.msg)
        for warning in message.warnings:
            own = self._warning(warning)
            self.warnings.append(own)
            yield own

    @property
    def holds(self) -> bool:
        """Whether the end of a step is held back."""
        return bool(self._held)

    def release(self) -> list[Event]:
        """Return the events that were held back, because nothing more came."""
        held, self._held = self._held, []
        return held

    def name(self, vertex: str) -> str:
        """Return the name of a step; empty for one that is not known."""
        return self._names.get(_digest(vertex), "")

    def tail(self, vertex: str) -> list[str]:
        """Return the last lines that a step wrote."""
        data = bytes(self._tails.get(_digest(vertex), b"")[-_TAIL_BYTES:])
        return data.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]

    def steps(self) -> tuple[tuple[str, str], ...]:
        """Return each step that ended well, by name, with its outcome."""
        return tuple(
            (self._names[digest], word)
            for digest, word in self._ended.items()
            if word != "ERROR" and not self._names[digest].startswith(("[internal]", "exporting"))
        )

    def _vertex(self, vertex: pb.Vertex) -> Iterator[Event]:
        digest = _digest(vertex.digest)
        yield from self._others(digest)
        if digest not in self._names:
            self._names[digest] = vertex.name
            inputs = tuple(_digest(text) for text in vertex.inputs)
            yield VertexAdded(vertex=digest, name=vertex.name, inputs=inputs)
        started, completed = seconds_of(vertex.started), seconds_of(vertex.completed)
        if started > self._started.get(digest, 0.0):
            self._started[digest] = started
            self._ended.pop(digest, None)  # it runs again, perhaps for another request
            if self._held:
                self._held.clear()
            elif not (completed and vertex.cached):
                yield VertexStarted(vertex=digest, time=self._time(started))
        if completed and digest not in self._ended:
            self._ended[digest], event = self._end(digest, vertex, self._time(completed))
            self._held, self._held_for = [event], digest

    def _end(self, digest: Digest, vertex: pb.Vertex, time: float) -> tuple[str, Event]:
        if vertex.error:
            cancelled = vertex.error.endswith(_CANCELED)
            if not cancelled and self.failed is None:
                self.failed = digest
            error = vertex.error
            return "ERROR", VertexFailed(vertex=digest, time=time, error=error, cancelled=cancelled)
        if vertex.cached:
            return "CACHED", VertexCached(vertex=digest, time=time)
        return "DONE", VertexCompleted(vertex=digest, time=time)

    def _others(self, digest: Digest) -> list[Event]:
        """Return the events held back of another step than *digest*."""
        return self.release() if self._held_for != digest else []

    def _status(self, status: pb.VertexStatus) -> Iterator[Event]:
        digest = _digest(status.vertex)
        yield from self._others(digest)
        done = status.HasField("completed")
        time = self._time(seconds_of(status.timestamp))
        if status.current or status.total or done:
            yield VertexProgress(
                vertex=digest,
                id=status.ID,
                current=status.current,
                total=status.total,
                done=done,
                time=time,
            )

    def _warning(self, warning: pb.VertexWarning) -> BuildWarning:
        match = _SHORT.match(warning.short.decode("utf-8", "replace"))
        assert match is not None
        name = warning.info.filename
        return BuildWarning(
            message=match[2],
            rule=match[1] or "",
            url=warning.url,
            spans=spans_of(self._filenames.get(name, name), warning.ranges),
            detail=tuple(text.decode("utf-8", "replace") for text in warning.detail),
        )

    def _keep(self, digest: Digest, data: bytes) -> None:
        tail = self._tails.setdefault(digest, bytearray())
        tail += data
        if len(tail) > 4 * _TAIL_BYTES:
            del tail[:-_TAIL_BYTES]

    def _time(self, theirs: float) -> float:
        return theirs + self._offset_s if theirs else 0.0


def spans_of(filename: str, ranges: Iterable[Range]) -> tuple[Span, ...]:
    """Return ranges, of which a server sends one for each line, as spans."""
    spans: list[Span] = []
    for one in ranges:
        first, last = one.start.line, max(one.start.line, one.end.line)
        if spans and spans[-1].last_line + 1 == first:
            spans[-1] = Span(filename, spans[-1].first_line, last)
        elif first > 0:
            spans.append(Span(filename, first, last))
    return tuple(spans)


def _digest(text: str) -> Digest:
    """Return a server's name of a step as a digest, whatever its form."""
    try:
        return Digest.parse(text)
    except ValueError:
        return Digest.of(b"remote:" + text.encode())
