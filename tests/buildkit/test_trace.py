"""The trace of a build, as `docker buildx history trace` reads it [remote-api 7.6]."""

from __future__ import annotations

import json
from typing import Any

from pybuild.buildkit.trace import Trace
from pybuild.model.digest import Digest
from pybuild.model.events import (
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexStarted,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
A, B, C, D = (Digest.of(name.encode()) for name in "abcd")


def traced(parent: str = "", error: str = "") -> list[dict[str, Any]]:
    trace = Trace("ref", 100.0, parent)
    for digest, name in ((A, "FROM x"), (B, "RUN one"), (C, "RUN two"), (D, "never reached")):
        trace.watch(VertexAdded(vertex=digest, name=name))
    trace.watch(VertexCached(vertex=A, time=100.5))
    trace.watch(VertexStarted(vertex=B, time=101.0))
    trace.watch(VertexCompleted(vertex=B, time=102.25))
    trace.watch(VertexStarted(vertex=C, time=102.25))
    trace.watch(VertexFailed(vertex=C, time=103.0, error="exit code: 1"))
    lines = trace.document(104.0, error).decode().splitlines()
    return [json.loads(line) for line in lines]


def test_every_step_that_had_a_turn_is_a_span_of_the_request() -> None:
    *steps, request = traced(error="it failed")
    assert [step["Name"] for step in steps] == ["FROM x", "RUN one", "RUN two"]
    assert request["Name"] == "moby.buildkit.v1.Control/Solve"
    assert {step["Parent"]["SpanID"] for step in steps} == {request["SpanContext"]["SpanID"]}
    assert len({span["SpanContext"]["SpanID"] for span in (*steps, request)}) == 4
    assert (steps[1]["StartTime"], steps[1]["EndTime"]) == (
        "1970-01-01T00:01:41.000000000Z",
        "1970-01-01T00:01:42.250000000Z",
    )
    assert [span["Status"]["Code"] for span in (*steps, request)] == [0, 0, 1, 1]
    assert steps[2]["Status"]["Description"] == "exit code: 1"
    cached = {"Key": "cached", "Value": {"Type": "BOOL", "Value": True}}
    assert [cached in step["Attributes"] for step in steps] == [True, False, False]


def test_it_is_part_of_the_clients_trace() -> None:
    spans = traced(PARENT)
    assert {span["SpanContext"]["TraceID"] for span in spans} == {PARENT.split("-")[1]}
    assert spans[-1]["Parent"]["SpanID"] == PARENT.split("-")[2]


def test_what_is_no_parent_is_none() -> None:
    for parent in ("", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", PARENT + "x", "garbage"):
        spans = traced(parent)
        assert spans[-1]["Parent"]["SpanID"] == "0" * 16
        assert spans == traced()
