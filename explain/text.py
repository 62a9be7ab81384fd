"""The only place where explanations become text."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pybuild.explain.difference import Difference
from pybuild.explain.report import BuildReport, Miss, Reason, Status, StepReport
from pybuild.model.printable import printable

_WORDS = {
    Status.CACHED: "CACHED",
    Status.RAN: "RAN",
    Status.FAILED: "FAILED",
    Status.MISSED: "MISSED",
    Status.UNREACHED: "-",
}
_SHORT = 72
_MOST_SHOWN = 5


def report_text(report: BuildReport, steps: Iterable[StepReport] | None = None) -> str:
    """Return the text of ``pybuild explain`` for a build, or for some of its steps."""
    shown = list(report.steps if steps is None else steps)
    lines = [_headline(report)]
    if report.error:
        lines.append(f"failed: {_one_line(report.error)}")
    for step in shown:
        lines += ["", *_step_lines(step)] if step.miss else _step_lines(step)
    return "\n".join(lines) + "\n"


def step_text(step: StepReport) -> str:
    """Return the text about one step."""
    return "\n".join([*_step_lines(step), *([f"            key {step.key}"] if step.key else [])])


def refusal(report: BuildReport) -> str:
    """Return why the step that was not let run would have had to."""
    for step in report.steps:
        if step.status is Status.MISSED and step.miss is not None:
            return f": {miss_lines(step.miss, step.name)[0].removeprefix('because ')}"
    return ""


def _headline(report: BuildReport) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.at))
    target = f" target {printable(report.target)}" if report.target else ""
    cached = sum(step.status is Status.CACHED for step in report.steps)
    return (
        f"build {report.id}  {when}  {report.seconds:.1f}s  {printable(report.context)} "
        f"({printable(report.dockerfile)}{target}): {cached} of {len(report.steps)} steps cached"
    )


def list_text(reports: Iterable[BuildReport]) -> str:
    """Return one line a build."""
    return "".join(f"{_headline(report)}\n" for report in reports)


def _step_lines(step: StepReport) -> list[str]:
    took = f" {step.seconds:.1f}s" if step.status in (Status.RAN, Status.FAILED) else ""
    lines = [f"{_WORDS[step.status] + took:<11} {_one_line(step.name)}"]
    if step.miss is not None:
        lines += [f"            {line}" for line in miss_lines(step.miss, step.name)]
    for mount in step.mounts:
        text = f'cache mount "{mount.id}": {mount.origin}; it counts in no key'
        lines.append(f"            {_one_line(text)}")
    return lines


def miss_lines(miss: Miss, name: str) -> list[str]:
    """Return why a step ran, the cause first."""
    match miss.reason:
        case Reason.EVICTED if miss.place:
            return [f"evicted: {miss.place} knows it, and its layers are there no more"]
        case Reason.EVICTED:
            return ["evicted: it was built here, and its result was freed since"]
        case Reason.NEW if "] FROM " in name:
            return ["never used: no result here or in an imported cache stands for it"]
        case Reason.NEW:
            return ["never built: no result here or in an imported cache is like it"]
        case Reason.IGNORED:
            return [
                "no stored result was wanted: --no-cache, or a max-age that is over, of it or of what it is made from"
            ]
        case Reason.UNEXPLAINED:
            return ["nothing that is known of the nearest result differs"]
        case Reason.CHANGED:
            pass
    lines = [f"because {difference_text(miss.differences[0])}"]
    for one in miss.differences[1:_MOST_SHOWN]:
        lines.append(f"also    {difference_text(one)}")
    more = len(miss.differences) - _MOST_SHOWN + miss.more
    if more > 0:
        lines.append(f"        and {more} more")
    where = f" in {miss.place}" if miss.place else ""
    if where or miss.nearest != name:
        lines.append(f"than    {_one_line(miss.nearest)}{where}")
    return lines


def difference_text(one: Difference) -> str:
    """Return one difference as a clause: what, from what, to what, where it comes from."""
    kind, _, what = one.field.partition(".")
    note = f" ({one.note})" if one.note else ""
    match kind:
        case "file":
            return _file(what, one) + note
        case "env" | "arg" if what != "order":
            return f"{kind.upper()} {what} {_change(one)}{note}"
        case "mount" if what in ("added", "removed"):
            return f"the {one.was or one.now} mount at {printable(one.path)} was {what}{note}"
        case "mount" if what != "order":
            return f"option {what} of the mount at {printable(one.path)} {_change(one)}{note}"
        case "secret":
            return f"the value of the secret {printable(one.path)} is another one{note}"
        case "base":
            return f"the base image {one.path} {_change(one)}{note}".replace("  ", " ")
        case "commit" | "url":
            return f"what {one.path or 'the source'} stands for {_change(one)}{note}"
        case "content":
            what = f"content of {printable(one.path)}" if one.path else "content"
            return f"the {what} differs (its files are not listed){note}"
        case "parent":
            if one.was == one.now:
                return f"the step below is another one: {_one_line(one.now or '')}{note}"
            return f"the step below {_change(one)}{note}"
        case _:
            return f"{one.field.replace('.', ' ')} {_change(one)}{note}"


def _file(what: str, one: Difference) -> str:
    name = f"/{printable(one.path)}"
    match what:
        case "added":
            return f"{name} was added ({one.now})"
        case "removed":
            return f"{name} was removed"
        case "ignored":
            return f"{name} is ignored now" if one.now == "ignored" else f"{name} was ignored"
        case "link":
            return f"the link {name} led to {_quoted(one.was)}, leads to {_quoted(one.now)}"
        case "content":
            return f"the content of {name} differs: {one.was}; now {one.now}"
        case _:
            return f"the {what} of {name} {_change(one)}"


def _change(one: Difference) -> str:
    if one.was is None:
        return f"was not set, is {_quoted(one.now)}"
    if one.now is None:
        return f"was {_quoted(one.was)}, is not set"
    return f"was {_quoted(one.was)}, is {_quoted(one.now)}"


def _quoted(text: str | None) -> str:
    return f'"{_one_line(text or "")}"'


def _one_line(text: str) -> str:
    # A Dockerfile is not trusted with the terminal.
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= _SHORT * 2 else line[: _SHORT * 2 - 1] + "…"
