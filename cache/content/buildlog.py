"""The log of one build: a file of JSON lines that grows while the build goes on.

The first line is the build's header, each further one an event. It is locked as long as the build lives, so
that others see whether it still does. Secrets are no part of it: those whose values are known, and
what looks like one (`pybuild.model.secrets`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from pybuild.cache.disk.plainfile import plain
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
from pybuild.model.jsontext import as_list, as_number, as_object, parse
from pybuild.model.secrets import redacted
from pybuild.model.span import Span

if TYPE_CHECKING:
    import asyncio

    from pybuild.cache.disk.atomic import Disk

MOST_STEP_BYTES = 32 << 20
"""That one step's output takes in a log; *MOST_BYTES*: that a log takes in all."""
MOST_BYTES = 128 << 20
_CLIPPED = "\n[output clipped: the build's history keeps no more]\n"
_BUFFER_BYTES = 32 << 10
_FLUSH_S = 1.0
_MOST_HELD = 64 << 10
_PIECE_BYTES = 1 << 20
_LEAST_SECRET = 6
_STREAMS = {LogStream.STDOUT: 1, LogStream.STDERR: 2}


class BuildLog:
    """Writes the log of a build under way. For one thread at a time.

    Attributes:
        fault: the reason why nothing more is written; None as long as all is well.
        total, completed, cached: counts of steps.
        size: bytes of the log so far.

    Args:
        header: the first line's object.
        secrets: values that are not to be kept.
    """

    def __init__(
        self, disk: Disk, path: str, header: Mapping[str, Any], secrets: Iterable[str] = ()
    ) -> None:
        self.path = path
        self.fault: OSError | None = None
        self.total = self.completed = self.cached = self.size = 0
        self._disk = disk
        self._secrets: list[str] = []
        self._numbers: dict[Digest, int] = {}
        self._held: dict[tuple[Digest, LogStream], bytes] = {}
        self._logged: dict[Digest, int] = {}
        self._lines: list[str] = []
        self._waiting = 0
        self._flushed = 0.0
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self.add_secrets(secrets)
        try:
            self._fd = disk.create(path)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._put(header)
            self._flush()
        except OSError as error:
            self._fail(error)

    def add_secrets(self, values: Iterable[str]) -> None:
        """Keep these values out of what follows, and each line of them; short ones are parts of anything."""
        parts = {part for value in values for part in (value.strip(), *value.splitlines())}
        known = {*self._secrets, *(part for part in parts if len(part) >= _LEAST_SECRET)}
        self._secrets = sorted(sorted(known), key=len, reverse=True)

    def emit(self, event: Event) -> None:
        """Take one event."""
        match event:
            case VertexAdded(vertex=vertex, name=name, inputs=inputs, stage=stage):
                if vertex not in self._numbers:
                    self._numbers[vertex] = self.total
                    self.total += 1
                    self._put(["added", vertex, self.without_secrets(name), list(inputs), stage])
            case VertexStarted(vertex=vertex, time=time):
                self._put(["started", self._number(vertex), time], time)
            case VertexCached(vertex=vertex, time=time):
                self.cached += 1
                self.completed += 1
                self._put(["cached", self._number(vertex), time], time)
            case VertexCompleted(vertex=vertex, time=time):
                self.completed += 1
                self._release(vertex, time)
                self._put(["completed", self._number(vertex), time], time)
            case VertexFailed(vertex=vertex, time=time):
                self._release(vertex, time)
                texts = [self.without_secrets(text) for text in (event.error, event.peer)]
                row = ["failed", self._number(vertex), time, *texts, event.cancelled]
                self._put(row, time)
            case VertexLog():
                self._log(event)
            case VertexProgress(vertex=vertex, time=time):
                if event.done:  # what came before it is of no interest any more
                    numbers = [event.current, event.total]
                    row = ["moved", self._number(vertex), time, event.id, *numbers, event.unit]
                    self._put(row)
            case VertexUsage() | VertexMount():
                pass  # the record has it, with the step
            case BuildWarning():
                spans = [[s.file, s.first_line, s.last_line] for s in event.spans]
                texts = [self.without_secrets(text) for text in (event.message, *event.detail)]
                self._put(["warning", texts[0], event.rule, event.url, spans, texts[1:]])

    def without_secrets(self, text: str) -> str:
        """Return *text* without what is secret in it."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[redacted]")
        return redacted(text)

    def events(self) -> Iterator[Event]:
        """Yield the events so far, as a reader of the log has them."""
        try:
            self._flush()
        except OSError as error:
            self._fail(error)
        yield from read_events(self.path)

    def close(self) -> None:
        """Write what is held back, and let go: the build has ended."""
        for vertex in {vertex for vertex, _ in self._held}:
            self._release(vertex, 0.0)
        try:
            self._flush()
        except OSError as error:
            self._fail(error)
        self._shut()

    def _number(self, vertex: Digest) -> int:
        if vertex not in self._numbers:
            self.emit(VertexAdded(vertex=vertex, name=""))
        return self._numbers[vertex]

    def _log(self, event: VertexLog) -> None:
        """Take whole lines, so that no secret is cut into two pieces; the rest waits."""
        logged = self._logged.get(event.vertex, 0)
        if logged > MOST_STEP_BYTES or self._fd < 0:
            return
        self._logged[event.vertex] = logged + len(event.data)
        key = event.vertex, event.stream
        data = self._held.pop(key, b"") + event.data
        end = data.rfind(b"\n") + 1
        begun = data.rfind(b"-----BEGIN ", 0, end)
        if begun >= 0 and b"-----END " not in data[begun:end]:
            end = data.rfind(b"\n", 0, begun) + 1  # a key of several lines is judged as a whole
        if len(data) - end > _MOST_HELD:
            end = len(data)
        if end < len(data):
            self._held[key] = data[end:]
        if end:
            self._said(event.vertex, event.time, event.stream, data[:end])
        if self._logged[event.vertex] > MOST_STEP_BYTES or self.size > MOST_BYTES:
            self._logged[event.vertex] = MOST_STEP_BYTES + 1
            self._held.pop(key, None)
            self._said(event.vertex, event.time, event.stream, _CLIPPED.encode())

    def _release(self, vertex: Digest, time: float) -> None:
        for stream in LogStream:
            if held := self._held.pop((vertex, stream), b""):
                self._said(vertex, time, stream, held)

    def _said(self, vertex: Digest, time: float, stream: LogStream, data: bytes) -> None:
        text = self.without_secrets(data.decode("utf-8", "surrogateescape"))
        self._put(["log", self._number(vertex), time, _STREAMS[stream], text], time)

    def _put(self, row: object, time: float = 0.0) -> None:
        if self._fd < 0:
            return
        line = json.dumps(row, separators=(",", ":"))
        self._lines.append(line)
        self._waiting += len(line) + 1
        self._flushed = self._flushed or time
        if self._waiting >= _BUFFER_BYTES or time - self._flushed >= _FLUSH_S:
            try:
                self._flush()
            except OSError as error:
                self._fail(error)
            self._flushed = time
        elif self._timer is None:
            self._flush_later()

    def _flush_later(self) -> None:
        """Have what waits written, though nothing more comes for a while: others read the log of a build that goes on."""
        from asyncio import get_running_loop

        try:
            self._timer = get_running_loop().call_later(_FLUSH_S, self._flush_in_time)
        except RuntimeError:
            pass  # no loop, nobody that could do it

    def _flush_in_time(self) -> None:
        self._timer = None
        try:
            self._flush()
        except OSError as error:
            self._fail(error)

    def _flush(self) -> None:
        if self._lines and self._fd >= 0:
            data = ("\n".join(self._lines) + "\n").encode("ascii")
            self._disk.write(self._fd, data)
            self._lines.clear()
            self._waiting = 0
            self.size += len(data)

    def _fail(self, error: OSError) -> None:
        self.fault = self.fault or error
        self._lines.clear()
        self._shut()

    def _shut(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_header(path: str) -> dict[str, Any]:
    """Return the header of the log at *path*; empty where there is none."""
    try:
        with open(path, "rb", opener=plain) as file:
            return as_object(parse(file.readline(1 << 20)))
    except OSError:
        return {}


def read_events(path: str) -> Iterator[Event]:
    """Yield the events of the log at *path*; lines that are broken, or of a newer pybuild, are passed over.

    Raises:
        OSError: it cannot be read.
    """
    with BuildLogReader(path) as reader:
        while events := reader.more():
            yield from events


class BuildLogReader:
    """Reads a log from its beginning, and goes on where it has grown. For one thread at a time.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", opener=plain)  # noqa: SIM115 - closed with the reader
        self._vertices: list[Digest] = []
        self._begun = b""
        self._has_header = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def more(self) -> list[Event]:
        """Return the events of the next lines that are whole, a bearable number; none where there is nothing more yet."""
        events: list[Event] = []
        while not events:
            data = self._file.read(_PIECE_BYTES)
            if not data:
                break
            *lines, self._begun = (self._begun + data).split(b"\n")
            events = [event for event in map(self._event, lines) if event is not None]
        return events

    def _event(self, line: bytes) -> Event | None:
        if not self._has_header:
            self._has_header = True
            return None
        try:
            return _event(as_list(parse(line)), self._vertices)
        except (ValueError, TypeError, IndexError, AttributeError):
            return None


def _event(row: list[Any], vertices: list[Digest]) -> Event | None:
    kind = row[0] if row else ""
    if kind == "added":
        vertices.append(Digest.parse(row[1]))
        inputs = tuple(map(Digest.parse, row[3]))
        return VertexAdded(vertex=vertices[-1], name=str(row[2]), inputs=inputs, stage=str(row[4]))
    if kind == "warning":
        spans = tuple(Span(str(name), int(first), int(last)) for name, first, last in row[4])
        detail = tuple(map(str, row[5]))
        texts = map(str, row[1:4])
        message, rule, url = texts
        return BuildWarning(message=message, rule=rule, url=url, spans=spans, detail=detail)
    if len(row) < 3:
        return None
    vertex, time = vertices[int(row[1])], as_number(row[2])
    match kind:
        case "started":
            return VertexStarted(vertex=vertex, time=time)
        case "cached":
            return VertexCached(vertex=vertex, time=time)
        case "completed":
            return VertexCompleted(vertex=vertex, time=time)
        case "failed":
            error, peer, cancelled = row[3:6]
            return VertexFailed(
                vertex=vertex, time=time, error=error, peer=peer, cancelled=cancelled is True
            )
        case "log":
            stream = LogStream.STDERR if row[3] == 2 else LogStream.STDOUT
            data = str(row[4]).encode("utf-8", "surrogateescape")
            return VertexLog(vertex=vertex, time=time, stream=stream, data=data)
        case "moved":
            return VertexProgress(
                vertex=vertex,
                time=time,
                id=str(row[3]),
                current=int(row[4]),
                total=int(row[5]),
                unit=str(row[6]),
                done=True,
            )
        case _:
            return None
