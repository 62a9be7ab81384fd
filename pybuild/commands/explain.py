"""``pybuild explain``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pybuild.commandline.parser import Parsed
from pybuild.explain.history import build_and_step, find_report, steps_named
from pybuild.explain.report import to_json
from pybuild.explain.text import list_text, report_text
from pybuild.model.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder


def main(parsed: Parsed, builder: Builder) -> int:
    """Show a build of the history, as the options choose; returns the exit code."""
    kind = parsed.one("format", "text")
    if kind not in ("text", "json"):
        raise UsageError(f'invalid format "{kind}": one of text, json')
    known = builder.reports(everything=parsed.flag("list") or bool(parsed.positionals))
    if parsed.flag("list"):
        text = (
            json.dumps([to_json(report) for report in known], indent=2) + "\n"
            if kind == "json"
            else list_text(known)
        )
        sys.stdout.write(text)
        return ExitCode.OK
    build, step = build_and_step(known, parsed.positionals)
    report = find_report(known, build)
    chosen = steps_named(report, step) if step else list(report.steps)
    if kind == "json":
        shown = to_json(report)
        shown["steps"] = [
            row for row in shown["steps"] if any(s.number == row["number"] for s in chosen)
        ]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        sys.stdout.write(report_text(report, chosen))
    missed = parsed.flag("fail-on-miss") and any(s.miss is not None for s in chosen)
    return ExitCode.BUILD_FAILURE if missed else ExitCode.OK
