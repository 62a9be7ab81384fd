"""One JSON object a status update, in the shape BuildKit's clients print [PRG-5]."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, TextIO

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


class RawJsonDisplay:
    """Prints ``vertexes``, ``statuses``, ``logs`` and ``warnings`` as they come."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._vertexes: dict[Digest, dict[str, Any]] = {}

    def show(self, event: Event) -> None:
        match event:
            case VertexAdded():
                self._update(event.vertex, name=event.name, inputs=list(event.inputs))
            case VertexStarted():
                self._update(event.vertex, started=_time(event.time))
            case VertexCached():
                stamp = _time(event.time)
                self._update(event.vertex, started=stamp, completed=stamp, cached=True)
            case VertexCompleted():
                self._update(event.vertex, completed=_time(event.time))
            case VertexFailed():
                error = "context canceled" if event.cancelled else event.peer or event.error
                self._update(event.vertex, completed=_time(event.time), error=error)
            case VertexLog():
                stream = 1 if event.stream is LogStream.STDOUT else 2
                data = base64.b64encode(event.data).decode()
                log = {"vertex": event.vertex, "stream": stream, "data": data}
                self._print(logs=[{**log, "timestamp": _time(event.time)}])
            case VertexProgress():
                status = {"id": event.id, "vertex": event.vertex, "current": event.current}
                status |= {"total": event.total, "timestamp": _time(event.time)}
                if event.done:
                    status["completed"] = _time(event.time)
                self._print(statuses=[status])
            case VertexUsage() | VertexMount():
                pass  # BuildKit's events have no place for it
            case BuildWarning():
                ranges = [{"start": s.first_line, "end": s.last_line} for s in event.spans]
                short = base64.b64encode(event.message.encode()).decode()
                warning = {"level": 1, "short": short, "url": event.url, "range": ranges}
                self._print(warnings=[warning])

    def close(self) -> None:
        self._out.flush()

    def _update(self, vertex: Digest, **fields: Any) -> None:
        known = self._vertexes.setdefault(vertex, {"digest": vertex})
        known.update(fields)
        self._print(vertexes=[known])

    def _print(self, **body: Any) -> None:
        self._out.write(json.dumps(body, separators=(",", ":")) + "\n")
        self._out.flush()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
