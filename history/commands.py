"""``pybuild report``, and the verbs of ``history`` that need a build's course: trace, compare and sql."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pybuild.builds.buildrecord import BuildRecord, find_record
from pybuild.commandline.parser import Parsed
from pybuild.exporter.atomicfile import write_whole
from pybuild.exporter.resultfiles import check_result_files
from pybuild.model.errors import PybuildError, UsageError
from pybuild.model.events import Event
from pybuild.model.listing import cut, table
from pybuild.model.timeline import StepState, TimedStep, Timeline, timeline_of

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder
    from pybuild.explain.report import BuildReport, StepReport

_NAME_WIDTH = 60


def report(parsed: Parsed, builder: Builder) -> int:
    """Write the page of a build."""
    from pybuild.history.page import page_of

    record = find_record(builder.builds(), "".join(parsed.positionals))
    reasons: dict[str, StepReport] = {}
    for one in _reports(builder):
        if record.id in (one.id, one.ref):
            reasons = {step.name: step for step in one.steps}
    _write(parsed.one("output"), page_of(record, _timeline(builder, record), reasons))
    return 0


def trace(parsed: Parsed, builder: Builder) -> int:
    """Write the trace of a build."""
    from pybuild.history.tracefile import chrome_trace, otlp_trace

    kind = parsed.one("format", "chrome")
    if kind not in ("chrome", "otlp"):
        raise UsageError(f'invalid format "{kind}": one of chrome, otlp')
    record = find_record(builder.builds(), "".join(parsed.positionals))
    make = chrome_trace if kind == "chrome" else otlp_trace
    document = make(record, _timeline(builder, record))
    _write(parsed.one("output"), json.dumps(document, separators=(",", ":")) + "\n")
    return 0


def compare(parsed: Parsed, builder: Builder) -> int:
    """Show two builds beside each other; the last two by default."""
    from pybuild.history.comparison import compare

    records = builder.builds()
    before, after = [*parsed.positionals, *("^1", "^0")[len(parsed.positionals) :]]
    old, new = find_record(records, before), find_record(records, after)
    changes = compare(_timeline(builder, old), _timeline(builder, new))
    rows = [
        [
            cut(change.name, _NAME_WIDTH),
            _cell(change.before),
            _cell(change.after),
            f"{change.seconds:+.2f}s" if round(change.seconds, 2) else "",
        ]
        for change in changes
    ]
    took = (new.seconds or 0.0) - (old.seconds or 0.0)
    total = ["in all", f"{old.seconds or 0.0:.2f}s", f"{new.seconds or 0.0:.2f}s", f"{took:+.2f}s"]
    sys.stdout.write(table([["STEP", old.id, new.id, "CHANGE"], *rows, total]))
    return 0


def sql(parsed: Parsed, builder: Builder) -> int:
    """Answer a question in SQL."""
    from pybuild.history.database import SCHEMA, answer

    if parsed.flag("schema"):
        sys.stdout.write(SCHEMA)
        return 0
    if len(parsed.positionals) != 1:
        raise UsageError(
            "history sql takes one question",
            hints=["pybuild history sql --schema shows the tables"],
        )
    kind = parsed.one("format", "table")
    if kind not in ("table", "json"):
        raise UsageError(f'invalid format "{kind}": one of table, json')
    result = answer(parsed.positionals[0], builder.builds(), _reports(builder))
    if kind == "json":
        sys.stdout.write(result.json())
    elif result.columns:
        sys.stdout.write(table(result.text()))
    return 0


def _timeline(builder: Builder, record: BuildRecord) -> Timeline:
    events: list[Event] = []
    builder.replay(record, events.append)
    return timeline_of(events, record.at)


def _reports(builder: Builder) -> list[BuildReport]:
    """Return why steps ran, where that is kept; BuildKit's own server keeps nothing of it."""
    try:
        return builder.reports(everything=True)
    except PybuildError:
        return []


def _cell(step: TimedStep | None) -> str:
    if step is None:
        return "-"
    return f"{step.seconds:.2f}s" if step.state is StepState.RAN else step.state.upper()


def _write(path: str, text: str) -> None:
    """Write a result whole, or not at all; to the standard output where no file is named."""
    if path in ("", "-"):
        sys.stdout.buffer.write(_clean(text).encode())
        return
    check_result_files(path)
    write_whole(path, _clean(text))


def _clean(text: str) -> str:
    """Return text that UTF-8 has; names of files may have other bytes."""
    return text.encode("utf-8", "replace").decode()
