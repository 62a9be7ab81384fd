"""From our events to the progress that clients read, kept whole for those who come later [7.5].

A build's progress is a file of messages, each behind its length in four little-endian bytes: the
form in which the history hands it out. Readers follow it; none is waited for.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.gateway import WarnRequest
from pybuild.buildkit.pb.ops import Position, Range, SourceInfo
from pybuild.buildkit.pb.times import seconds_of, timestamp
from pybuild.model.clock import Clock
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
    VertexMount,
    VertexProgress,
    VertexStarted,
    VertexUsage,
)
from pybuild.model.span import Span

_MAX_LOG_BYTES = 256 << 10
# Of one step, or of a frontend's warnings, or whoever runs `yes` fills the disk of all.
MOST_LOG_BYTES = 32 << 20
MOST_LOG_BYTES_OF_ALL = 256 << 20
"""Of all builds under way of one owner."""
_READ_BYTES = 1 << 20
_PROGRESS_EVERY_S = 0.1
_MOST_LINES = 100
_ALL_CLIPPED = b"\n[output clipped, the log limit of all builds is reached]\n"
_STREAMS = {LogStream.STDOUT: 1, LogStream.STDERR: 2}


class LogRoom:
    """The room for progress of the builds of one owner that are under way. *taken* is in bytes."""

    def __init__(self, most: int = MOST_LOG_BYTES_OF_ALL) -> None:
        self.most = most
        self.taken = 0


class Journal:
    """The progress of one build: written by the build, followed by any number of readers.

    Args:
        room: where it counts until it is discarded.
    """

    def __init__(self, file: IO[bytes], room: LogRoom | None = None) -> None:
        self._file = file
        self._room = room or LogRoom()
        self._size = 0
        self._more = asyncio.Event()
        self._closed = False

    def write(self, message: bytes) -> None:
        """Append a serialized ``StatusResponse``; nothing once it is closed."""
        if self._closed:
            return
        data = len(message).to_bytes(4, "little") + message
        self._file.write(data)
        self._file.flush()
        self._size += len(data)
        self._room.taken += len(data)
        self._wake()

    @property
    def is_full(self) -> bool:
        """Whether there is no room for what can be left out."""
        return self._room.taken > self._room.most

    def close(self) -> None:
        """There will be no more; readers end when they have read all. Idempotent."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        more, self._more = self._more, asyncio.Event()
        more.set()

    @classmethod
    def temporary(cls, room: LogRoom | None = None) -> Journal:
        """Return a journal that goes with the process."""
        return cls(tempfile.TemporaryFile(prefix="pybuild-status-"), room)

    @classmethod
    def stored(cls, path: str) -> Journal:
        """Return the journal of a build that has ended."""
        journal = cls(open(path, "rb"))  # noqa: SIM115  closed by `discard`
        journal._size = os.path.getsize(path)
        journal._closed = True
        return journal

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it, as the history keeps it."""
        self._file.flush()
        at = 0
        while data := os.pread(self._file.fileno(), min(_READ_BYTES, self._size - at), at):
            yield data
            at += len(data)

    def discard(self) -> None:
        """Close the file; readers that are under way have their own. Once, by who wrote it, or had it stored."""
        self._file.close()
        self._room.taken -= self._size

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield every message from the first, as they come, until the journal is closed."""
        fd = os.dup(self._file.fileno())
        try:
            at, rest = 0, b""
            while True:
                more, size, closed = self._more, self._size, self._closed
                while at < size:
                    data = os.pread(fd, min(_READ_BYTES, size - at), at)
                    at += len(data)
                    rest, begin = rest + data, 0
                    while len(rest) >= begin + 4:
                        end = begin + 4 + int.from_bytes(rest[begin : begin + 4], "little")
                        if len(rest) < end:
                            break
                        yield rest[begin + 4 : end]
                        begin = end
                    rest = rest[begin:]
                if closed:
                    return
                await more.wait()
        finally:
            os.close(fd)


class Teller:
    """Writes the events of a build in the protocol's words.

    Attributes:
        total, completed, cached, warnings: counts of steps, for the history.
        failed: the first step that failed by itself.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._vertexes: dict[str, pb.Vertex] = {}
        self._transfers: dict[str, dict[str, pb.VertexStatus]] = {}  # under way, by vertex
        self._logged: dict[str, int] = {}
        self._warned = 0
        self.completed = self.cached = self.warnings = 0
        self.failed = ""

    @property
    def total(self) -> int:
        return len(self._vertexes)

    def emit(self, event: Event) -> None:
        """Take one event of the engine."""
        match event:
            case VertexAdded():
                self._added(event)
            case VertexStarted(time=time):
                vertex = self._vertex(event.vertex)
                vertex.ClearField("completed")
                vertex.started.CopyFrom(timestamp(time))
                self._tell(vertex)
            case VertexCached(time=time):
                vertex = self._vertex(event.vertex)
                vertex.cached = True
                self.cached += 1
                self._complete(vertex, time)
            case VertexCompleted(time=time):
                self._complete(self._vertex(event.vertex), time)
            case VertexFailed(time=time):
                vertex = self._vertex(event.vertex)
                vertex.error = "context canceled" if event.cancelled else event.peer or event.error
                if not event.cancelled and not self.failed:
                    self.failed = event.vertex
                self._complete(vertex, time)
            case VertexLog():
                self._log(event)
            case VertexProgress():
                self._progress(event)
            case VertexUsage() | VertexMount():
                pass  # BuildKit's events have no place for it
            case BuildWarning():
                pass  # needs the text of the file: see `warn`

    def warn(self, warning: BuildWarning, vertex: Digest, filename: str, data: bytes) -> None:
        """Tell a finding of a build check; *vertex* is the one that read the file."""
        self.warnings += 1
        self._warned += len(data)  # each of them brings the file along
        if self._warned > MOST_LOG_BYTES or self._journal.is_full:
            return
        message = pb.VertexWarning(
            vertex=vertex,
            level=1,
            short=_short(warning).encode(),
            detail=[text.encode() for text in warning.detail],
            url=warning.url,
            ranges=ranges_of(warning.spans),
        )
        if warning.spans:
            info = SourceInfo(filename=filename, data=data, language="Dockerfile")
            message.info.CopyFrom(info)
        response = pb.StatusResponse(warnings=[message])
        if vertex in self._vertexes:  # clients show what a step warns of with news of that step
            response.vertexes.append(self._vertexes[vertex])
        self._journal.write(response.SerializeToString())

    def forward_warning(self, request: WarnRequest) -> None:
        """Pass on a warning of the client's own frontend."""
        self.warnings += 1
        self._warned += request.ByteSize()
        if self._warned > MOST_LOG_BYTES or self._journal.is_full:
            return
        message = pb.VertexWarning(
            vertex=request.digest,
            level=request.level,
            short=request.short,
            detail=request.detail,
            url=request.url,
            ranges=request.ranges,
        )
        if request.HasField("info"):
            message.info.CopyFrom(request.info)
        self._journal.write(pb.StatusResponse(warnings=[message]).SerializeToString())

    def _added(self, event: VertexAdded) -> None:
        if event.vertex in self._vertexes:
            return
        vertex = pb.Vertex(digest=event.vertex, name=event.name, inputs=event.inputs)
        self._vertexes[event.vertex] = vertex
        self._tell(vertex)

    def _vertex(self, digest: str) -> pb.Vertex:
        if digest not in self._vertexes:
            self._vertexes[digest] = pb.Vertex(digest=digest)
        return self._vertexes[digest]

    def _complete(self, vertex: pb.Vertex, time: float) -> None:
        if not vertex.HasField("started"):
            vertex.started.CopyFrom(timestamp(time))
        vertex.completed.CopyFrom(timestamp(time))
        self.completed += 1
        # A client calls no step done that has something under way.
        left = self._transfers.pop(vertex.digest, {}).values()
        for status in left:
            status.completed.CopyFrom(timestamp(time))
        self._tell(vertex, list(left))

    def _tell(self, vertex: pb.Vertex, statuses: Iterable[pb.VertexStatus] = ()) -> None:
        response = pb.StatusResponse(vertexes=[vertex], statuses=statuses)
        self._journal.write(response.SerializeToString())

    def _log(self, event: VertexLog) -> None:
        logged = self._logged.get(event.vertex, 0)
        if logged > MOST_LOG_BYTES:
            return
        if self._journal.is_full:
            self._logged[event.vertex] = MOST_LOG_BYTES + 1
            event = replace(event, data=_ALL_CLIPPED)
        else:
            self._logged[event.vertex] = logged + len(event.data)
        if logged + len(event.data) > MOST_LOG_BYTES:
            most = f"\n[output clipped, log limit {MOST_LOG_BYTES >> 20}MiB reached]\n".encode()
            event = replace(event, data=event.data[: MOST_LOG_BYTES - logged] + most)
        for start in range(0, len(event.data), _MAX_LOG_BYTES):
            log = pb.VertexLog(
                vertex=event.vertex,
                timestamp=timestamp(event.time),
                stream=_STREAMS[event.stream],
                msg=event.data[start : start + _MAX_LOG_BYTES],
            )
            self._journal.write(pb.StatusResponse(logs=[log]).SerializeToString())

    def _progress(self, event: VertexProgress) -> None:
        now = event.time or self._clock.now()
        under_way = self._transfers.setdefault(event.vertex, {})
        status = under_way.get(event.id)
        is_new = status is None
        if status is None:
            status = pb.VertexStatus(ID=event.id, vertex=event.vertex, started=timestamp(now))
            status.name = event.id.partition(" ")[0] if " " in event.id else event.id
            under_way[event.id] = status
        last_s = seconds_of(status.timestamp)
        status.current, status.total = event.current, event.total
        if event.done:
            status.completed.CopyFrom(timestamp(now))
            del under_way[event.id]
        elif not is_new and now - last_s < _PROGRESS_EVERY_S:
            return
        status.timestamp.CopyFrom(timestamp(now))
        self._journal.write(pb.StatusResponse(statuses=[status]).SerializeToString())


def _short(warning: BuildWarning) -> str:
    """``RuleName: text (line 3)``, as every client shows it."""
    text = f"{warning.rule}: {warning.message}" if warning.rule else warning.message
    return f"{text} (line {warning.spans[0].first_line})" if warning.spans else text


def ranges_of(spans: Sequence[Span]) -> list[Range]:
    """Return spans as the protocol's ranges: one for each line."""
    return [
        Range(start=Position(line=line), end=Position(line=line))
        for span in spans
        for line in range(span.first_line, min(span.last_line, span.first_line + _MOST_LINES) + 1)
    ]
