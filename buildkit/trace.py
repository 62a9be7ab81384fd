"""The trace that the history keeps of a build: a span for the request, and one for each step [7.6].

In the form in which BuildKit writes its own, for `docker buildx history trace`: OpenTelemetry spans as
Go's JSON has them, one behind the other. A client that traces itself says so in ``traceparent``; then
the build's spans are part of that trace.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from pybuild.buildkit.pb.times import rfc3339
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.events import (
    Event,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexStarted,
)

TRACE_TYPE = "application/vnd.buildkit.otlp.json.v0"
_SERVICE, _METHOD = "moby.buildkit.v1.Control", "Solve"
_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}\Z")
_NO_SPAN = "0" * 16
_UNSET, _ERROR = 0, 1
_INTERNAL, _SERVER = 1, 2
_MOST_SPANS = 10_000


@dataclass(slots=True)
class _Step:
    name: str
    started: float = 0.0
    ended: float = 0.0
    cached: bool = False
    error: str = ""


class Trace:
    """Follows one build.

    Args:
        ref: of the request; equal builds of equal name have equal ids.
        parent: the client's ``traceparent``; a malformed one counts as not there.
    """

    def __init__(self, ref: str, started: float, parent: str = "") -> None:
        self._ref = ref
        self._started = started
        self._steps: dict[Digest, _Step] = {}
        match = _PARENT.match(parent)
        self._parent = match[2] if match else _NO_SPAN
        self.id = match[1] if match else self._hex("trace", 32)

    def watch(self, event: Event) -> None:
        """Take in an event of a step."""
        match event:
            case VertexAdded(vertex=vertex, name=name):
                if len(self._steps) < _MOST_SPANS:
                    self._steps.setdefault(vertex, _Step(name))
            case VertexStarted(vertex=vertex, time=time) if vertex in self._steps:
                self._steps[vertex].started = time
            case VertexCached(vertex=vertex, time=time) if vertex in self._steps:
                self._steps[vertex].cached = True
                self._steps[vertex].ended = time
            case VertexCompleted(vertex=vertex, time=time) if vertex in self._steps:
                self._steps[vertex].ended = time
            case VertexFailed(vertex=vertex, time=time) if vertex in self._steps:
                self._steps[vertex].ended = time
                self._steps[vertex].error = event.peer or event.error
            case _:
                pass

    def document(self, ended: float, error: str = "") -> bytes:
        """Return all spans of a build that has ended; the request's comes last, as it ended last."""
        root = self._hex("request", 16)
        spans = [
            self._span(
                step.name,
                self._hex(vertex, 16),
                root,
                step.started or step.ended,
                step.ended or ended,
                step.error,
                {"vertex": vertex, "cached": step.cached},
            )
            for vertex, step in self._steps.items()
            if step.started or step.ended
        ]
        facts: dict[str, str | bool] = {
            "rpc.system": "grpc",
            "rpc.service": _SERVICE,
            "rpc.method": _METHOD,
            "ref": self._ref,
        }
        name = f"{_SERVICE}/{_METHOD}"
        request = self._span(name, root, self._parent, self._started, ended, error, facts)
        request |= {"SpanKind": _SERVER, "ChildSpanCount": len(spans)}
        return "".join(json.dumps(span) + "\n" for span in (*spans, request)).encode()

    def _span(
        self,
        name: str,
        id: str,
        parent: str,
        started: float,
        ended: float,
        error: str,
        facts: dict[str, str | bool],
    ) -> dict[str, Any]:
        return {
            "Name": name,
            "SpanContext": self._context(id),
            "Parent": self._context(parent),
            "SpanKind": _INTERNAL,
            "StartTime": _time(started),
            "EndTime": _time(max(started, ended)),
            "Attributes": [_attribute(key, value) for key, value in facts.items()],
            "Events": None,
            "Links": None,
            "Status": {"Code": _ERROR if error else _UNSET, "Description": error},
            "DroppedAttributes": 0,
            "DroppedEvents": 0,
            "DroppedLinks": 0,
            "ChildSpanCount": 0,
            "Resource": [_attribute("service.name", "pybuild daemon")],
            "InstrumentationLibrary": {"Name": "pybuild", "Version": "", "SchemaURL": ""},
        }

    def _context(self, span: str) -> dict[str, Any]:
        return {
            "TraceID": self.id,
            "SpanID": span,
            "TraceFlags": "01",
            "TraceState": "",
            "Remote": False,
        }

    def _hex(self, what: str, length: int) -> str:
        return hashlib.sha256(f"{self._ref}\0{what}".encode()).hexdigest()[:length]


def _attribute(key: str, value: str | bool) -> dict[str, Any]:
    kind = "BOOL" if isinstance(value, bool) else "STRING"
    return {"Key": key, "Value": {"Type": kind, "Value": value}}


def _time(seconds: float) -> str:
    return rfc3339(round(seconds * 1e9))
