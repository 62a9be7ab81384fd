"""A build's timeline as a file for the viewers of traces: Perfetto and Chrome, or whatever reads OTLP's JSON. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.model.package import VERSION
from pybuild.model.timeline import StepState, TimedStep, Timeline

_OK, _ERROR = 1, 2  # opentelemetry's status codes
_INTERNAL_SPAN = 1


def chrome_trace(record: BuildRecord, timeline: Timeline) -> dict[str, Any]:
    """Return a build in the Trace Event Format; steps that ran at once are on different lines.

    Times are microseconds since the build began.
    """
    critical = set(timeline.critical)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"build {record.id}"}}
    ]
    for lane, steps in enumerate(lanes(timeline.steps), 1):
        for step in steps:
            events.append(
                {
                    "ph": "X",
                    "pid": 1,
                    "tid": lane,
                    "name": step.name,
                    "cat": str(step.state),
                    "ts": round((step.began or 0.0) * 1e6),
                    "dur": round(step.seconds * 1e6),
                    "args": {
                        "number": step.number,
                        "stage": step.stage,
                        "inputs": list(step.inputs),
                        "critical": step.number in critical,
                        "output_bytes": step.output_bytes,
                        "moved_bytes": step.moved_bytes,
                        **({"error": step.error} if step.error else {}),
                    },
                }
            )
    return {
        "displayTimeUnit": "ms",
        "otherData": {"build": record.id, "name": record.name, "status": str(record.status)},
        "traceEvents": events,
    }


def lanes(steps: Sequence[TimedStep]) -> list[list[TimedStep]]:
    """Return the steps that began, on as few lines as can be: on each one none begins before another's end."""
    rows: list[list[TimedStep]] = []
    for step in sorted(
        (step for step in steps if step.began is not None),
        key=lambda step: (step.began or 0.0, step.number),
    ):
        began = step.began or 0.0
        row = next((row for row in rows if _free_from(row[-1]) <= began), None)
        if row is None:
            rows.append([step])
        else:
            row.append(step)
    return rows


def _free_from(step: TimedStep) -> float:
    return float("inf") if step.ended is None else step.ended


def otlp_trace(record: BuildRecord, timeline: Timeline) -> dict[str, Any]:
    """Return a build as the JSON of OpenTelemetry's protocol (``ExportTraceServiceRequest``).

    The build is the root span, each step that began a child of it; ids follow from the build's. A
    step has links to the steps that it reads.
    """
    trace = hashlib.sha256(f"{record.id} {record.at!r}".encode()).hexdigest()[:32]
    took = timeline.seconds if record.seconds is None else record.seconds
    root = _span_id(trace, 0)
    spans = [
        _span(
            trace,
            root,
            record.name or record.id,
            (record.at, record.at + took),
            {
                "pybuild.build.id": record.id,
                "pybuild.build.target": record.target,
                "pybuild.build.dockerfile": record.dockerfile,
                "pybuild.build.steps": record.total,
                "pybuild.build.cached": record.cached,
            },
            record.error if record.status is BuildStatus.ERROR else "",
        )
    ]
    critical = set(timeline.critical)
    for step in timeline.steps:
        if step.began is None:
            continue
        began = record.at + step.began
        span = _span(
            trace,
            _span_id(trace, step.number),
            step.name,
            (began, began + step.seconds),
            {
                "pybuild.step.number": step.number,
                "pybuild.step.state": str(step.state),
                "pybuild.step.stage": step.stage,
                "pybuild.step.critical": step.number in critical,
                "pybuild.step.output_bytes": step.output_bytes,
                "pybuild.step.moved_bytes": step.moved_bytes,
            },
            step.error or ("it failed" if step.state is StepState.FAILED else ""),
        )
        span["parentSpanId"] = root
        if step.inputs:
            span["links"] = [
                {"traceId": trace, "spanId": _span_id(trace, number)} for number in step.inputs
            ]
        spans.append(span)
    service = {"service.name": "pybuild", "service.version": VERSION}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(service)},
                "scopeSpans": [{"scope": {"name": "pybuild", "version": VERSION}, "spans": spans}],
            }
        ]
    }


def _span(
    trace: str,
    id: str,
    name: str,
    times: tuple[float, float],
    attributes: Mapping[str, object],
    error: str,
) -> dict[str, Any]:
    began, ended = times
    return {
        "traceId": trace,
        "spanId": id,
        "name": name,
        "kind": _INTERNAL_SPAN,
        "startTimeUnixNano": str(round(began * 1e9)),
        "endTimeUnixNano": str(round(ended * 1e9)),
        "attributes": _attributes(attributes),
        "status": {"code": _ERROR, "message": error} if error else {"code": _OK},
    }


def _span_id(trace: str, number: int) -> str:
    return hashlib.sha256(f"{trace}/{number}".encode()).hexdigest()[:16]


def _attributes(values: Mapping[str, object]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": _value(value)}
        for key, value in values.items()
        if value not in ("", None)
    ]


def _value(value: object) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case _:
            return {"stringValue": str(value)}
