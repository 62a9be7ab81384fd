"""A page about one build for the summary of a CI job: how it ended, its timeline, and why steps ran."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pybuild.model.amounts import human_duration
from pybuild.model.errors import PybuildError, StepError
from pybuild.model.printable import without_controls
from pybuild.model.timeline import StepState, TimedStep, Timeline

MOST_STEPS = 100
_MOST_BYTES = 128 << 10
_BAR = 24
_MARKS = {
    StepState.CACHED: "cached",
    StepState.RAN: "ran",
    StepState.FAILED: "**failed**",
    StepState.CANCELED: "cancelled",
}
_RAN = (StepState.RAN, StepState.FAILED)
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@])")

StepReason = tuple[str, Sequence[str], str]
"""A step that ran: its name, why, and what to do about it; the last may be empty."""


def job_summary(
    title: str,
    timeline: Timeline,
    error: PybuildError | None,
    reasons: Sequence[StepReason] = (),
) -> str:
    """Return the page as Markdown. Whatever steps and files are called, it is text there."""
    steps = timeline.shown
    first = min((step.began for step in steps if step.began is not None), default=0.0)
    last = max((step.ended for step in steps if step.ended is not None), default=first)
    cached, reached = timeline.cached
    share = f", {cached} of {reached} steps cached ({100 * cached // reached} %)" if reached else ""
    how = "built" if error is None else "failed"
    lines = [f"### {_inline(title)}: {how} in {human_duration(last - first)}{share}", ""]
    if error is not None:
        lines += _failure(error)
    lines += ["| step | | took | timeline |", "|---|---|--:|---|"]
    lines += [_row(step, first, last) for step in steps[:MOST_STEPS]]
    if len(steps) > MOST_STEPS:
        lines.append(f"| and {len(steps) - MOST_STEPS} more | | | |")
    if reasons:
        lines += ["", "<details><summary>Why steps ran</summary>", ""]
        for name, why, remedy in reasons[:MOST_STEPS]:
            lines.append(f"- {_inline(name)}: {_inline('; '.join(why))}")
            if remedy:
                lines.append(f"  - {_inline(remedy)}")
        lines += ["", "</details>"]
    if timeline.warnings:
        lines += ["", f"{len(timeline.warnings)} warnings:", ""]
        lines += [
            f"- {_inline(one.rule + ': ' if one.rule else '')}{_inline(one.message)}"
            for one in timeline.warnings[:MOST_STEPS]
        ]
    text = "\n".join(lines) + "\n\n"
    data = text.encode("utf-8", "replace")
    if len(data) <= _MOST_BYTES:
        return text
    return data[:_MOST_BYTES].decode("utf-8", "ignore") + "\n\n… (cut)\n\n"


def _failure(error: PybuildError) -> list[str]:
    at = f" (line {error.line})" if error.line else ""
    lines = [f"**{_inline(error.message)}**{at}", ""]
    lines += [f"- hint: {_inline(hint)}" for hint in error.hints]
    if isinstance(error, StepError) and error.log_tail:
        log = [without_controls(line) for line in error.log_tail]
        longest = max((len(run) for line in log for run in re.findall("`+", line)), default=0)
        fence = "`" * max(3, longest + 1)
        lines += ["", fence + "text", *log, fence]
    return [*lines, ""]


def _row(step: TimedStep, first: float, last: float) -> str:
    took = f"{step.seconds:.1f} s" if step.state in _RAN else ""
    return f"| {_inline(step.name)} | {_MARKS.get(step.state, '–')} | {took} | {_bar(step, first, last)} |"


def _bar(step: TimedStep, first: float, last: float) -> str:
    """Return where in the build's time a step ran."""
    if step.state not in _RAN or last <= first or step.began is None or step.ended is None:
        return ""
    begin = int(_BAR * (step.began - first) / (last - first))
    end = max(begin + 1, round(_BAR * (step.ended - first) / (last - first)))
    return "`" + "·" * begin + "█" * (end - begin) + "·" * max(0, _BAR - end) + "`"


def _inline(text: str) -> str:
    """Return *text* as it stands, on one line, whatever it means to Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(without_controls(text).split()))
