"""``pybuild explain``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pybuild.commandline.parser import Parsed
from pybuild.explain.history import find_report
from pybuild.explain.report import BuildReport, StepReport, to_json
from pybuild.explain.text import list_text, report_text
from pybuild.model.errors import ExitCode, UsageError, UserError

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
    build, step = _words(known, parsed.positionals)
    report = find_report(known, build)
    chosen = _chosen(report, step) if step else list(report.steps)
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


def _words(known: list[BuildReport], words: list[str]) -> tuple[str, str]:
    """Tell the build from the step: a single word that is no build's id is a step of the latest."""
    if len(words) == 2:
        return words[0], words[1]
    if not words:
        return "", ""
    is_build = any(report.id.startswith(words[0]) for report in known)
    return (words[0], "") if is_build else ("", words[0])


def _chosen(report: BuildReport, text: str) -> list[StepReport]:
    """Return the step of that number, or those with this text in their name.

    Raises:
        UserError: there is none.
    """
    number = text.removeprefix("#")
    if number.isdecimal() and len(number) < 10:
        steps = [step for step in report.steps if step.number == int(number)]
    else:
        steps = [step for step in report.steps if text.lower() in step.name.lower()]
    if not steps:
        raise UserError(
            f'build {report.id} has no step "{text}"',
            hints=["name its number or a part of its text, such as RUN or 3/5"],
        )
    return steps
