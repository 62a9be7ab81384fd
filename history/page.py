"""A build as one page that needs nothing else: its course, its critical path, why steps ran, what they said.

The page has no script, loads nothing (its policy forbids both), and takes each text of a build as text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.explain.report import StepReport
from pybuild.explain.text import miss_lines
from pybuild.history.markup import as_lines, as_text, document, style
from pybuild.model.amounts import human_bytes, human_duration
from pybuild.model.timeline import StepState, TimedStep, Timeline

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LEAST_WIDTH = 2.0
_MOST_LISTED = 12
_MOST_OUTPUTS = 2 << 20
_KINDS = (
    ("ran", "ran"),
    ("cached", "from the cache"),
    ("failed", "failed"),
    ("canceled", "canceled"),
    ("mark", "on the critical path"),
)


def page_of(record: BuildRecord, timeline: Timeline, reasons: Mapping[str, StepReport]) -> str:
    """Return the page of a build, which needs nothing else; see `body_of`."""
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<style>\n{style()}</style>\n"
    )
    title = f"build {record.id}: {record.name}"
    return document(title, f"<main>\n{body_of(record, timeline, reasons)}\n</main>", head)


def body_of(record: BuildRecord, timeline: Timeline, reasons: Mapping[str, StepReport]) -> str:
    """Return the main part of the page of a build.

    Args:
        reasons: why steps ran, by the names of the steps; those of a build that keeps none are empty.
    """
    parts = (
        *head_of(record, timeline),
        *_costs(timeline, reasons),
        *_course(timeline),
        *_outputs(timeline),
    )
    return "\n".join(parts)


def head_of(record: BuildRecord, timeline: Timeline) -> Iterator[str]:
    """Yield the facts of a build."""
    took = timeline.seconds if record.seconds is None else record.seconds
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.at))
    share = (
        f", {100 * record.cached // record.total} % of them from the cache" if record.total else ""
    )
    facts = [
        ("Began", began),
        ("Took", human_duration(took) + (" so far" if record.seconds is None else "")),
        ("Steps", f"{record.completed} of {record.total}{share}" if record.total else ""),
        ("Context", record.context),
        ("Dockerfile", record.dockerfile),
        ("Target", record.target),
        ("Arguments", ", ".join(record.args)),
        ("Tags", ", ".join(record.tags)),
        ("Images", ", ".join(record.images)),
        ("Warnings", str(record.warnings or "")),
    ]
    yield f"<h1>{as_text(record.name or record.id)}</h1>"
    status = "failed" if record.status is BuildStatus.ERROR else record.status
    state = f'<span class="state {status}">{status}</span>'
    yield f'<p>{state} <span class="soft">build {as_text(record.id)}</span></p>'
    yield '<dl class="facts">'
    for name, value in facts:
        if value:
            yield f"<dt>{name}</dt><dd>{as_text(value)}</dd>"
    yield "</dl>"
    if record.error:
        yield f'<p class="error">{as_text(record.error)}</p>'


def _costs(timeline: Timeline, reasons: Mapping[str, StepReport]) -> Iterator[str]:
    """Yield the steps that took the most time, and why they ran."""
    critical = set(timeline.critical)
    on_path = sum(step.seconds for step in timeline.steps if step.number in critical)
    ran = [step for step in timeline.steps if step.seconds > 0 and not step.is_internal]
    ran.sort(key=lambda step: (-step.seconds, step.number))
    if not ran:
        return
    yield "<h2>Where the time went</h2>"
    yield (
        f"<p>The critical path has {_count(len(critical), 'step')} and {human_duration(on_path)} of work. "
        "No other step can make the build shorter.</p>"
    )
    yield '<div class="wide"><table><thead><tr><th class="number">time</th><th class="number">share</th>'
    yield '<th class="number">processor</th><th class="number">memory</th>'
    yield "<th>critical</th><th>step</th><th>why it ran</th></tr></thead><tbody>"
    for step in ran[:_MOST_LISTED]:
        share = f"{100 * step.seconds / timeline.seconds:.0f} %" if timeline.seconds else ""
        yield (
            f'<tr><td class="number">{step.seconds:.2f} s</td><td class="number">{share}</td>'
            f"{_usage(reasons.get(step.name))}<td>{'yes' if step.number in critical else ''}</td>"
            f'<td class="name">{as_text(step.name)}</td><td>{_why(step, reasons)}</td></tr>'
        )
    yield "</tbody></table></div>"


def _usage(report: StepReport | None) -> str:
    """Return the cells of what the processes of a step took; empty for one without."""
    if report is None or not report.peak_memory_bytes:
        return '<td class="number"></td><td class="number"></td>'
    memory = human_bytes(report.peak_memory_bytes)
    return f'<td class="number">{report.cpu_seconds:.2f} s</td><td class="number">{memory}</td>'


def _why(step: TimedStep, reasons: Mapping[str, StepReport]) -> str:
    report = reasons.get(step.name)
    lines = miss_lines(report.miss, step.name) if report and report.miss else []
    return "<br>".join(map(as_text, lines))


def _course(timeline: Timeline) -> Iterator[str]:
    critical = set(timeline.critical)
    steps = [step for step in timeline.steps if step.began is not None]
    steps.sort(key=lambda step: (step.began or 0.0, step.number))
    yield "<h2>Course</h2>"
    yield '<p class="key soft">' + "".join(
        f'<span><i class="{kind}"></i>{words}</span>' for kind, words in _KINDS
    )
    yield "</p>"
    ticks = "".join(f"<span>{timeline.seconds * part / 4:.1f} s</span>" for part in range(5))
    yield '<div class="wide"><table><thead><tr><th class="number">#</th><th>step</th>'
    yield f'<th class="number">began</th><th class="number">time</th><th><div class="axis">{ticks}</div></th>'
    yield "</tr></thead><tbody>"
    for step in steps:
        after = ", ".join(f"#{number}" for number in step.inputs)
        reads = f' <span class="soft">reads {after}</span>' if after else ""
        took = step.state if step.ended is None or not step.seconds else f"{step.seconds:.2f} s"
        yield (
            f'<tr><td class="number">{step.number}</td><td class="name">{as_text(step.name)}{reads}</td>'
            f'<td class="number">{step.began or 0.0:.2f} s</td><td class="number">{took}</td>'
            f'<td class="course">{_bar(step, timeline.seconds, step.number in critical)}</td></tr>'
        )
    yield "</tbody></table></div>"
    waiting = [step for step in timeline.steps if step.state is StepState.WAITING]
    if waiting:
        yield f'<p class="soft">{_count(len(waiting), "step")} did not begin.</p>'


def _bar(step: TimedStep, total: float, critical: bool) -> str:
    """Return a step's place in the build as a picture; what it says stands in the row's other cells, too."""
    total = total or 1.0
    began = step.began or 0.0
    ended = total if step.ended is None else step.ended
    left = 1000 * began / total
    width = max(_LEAST_WIDTH, 1000 * (ended - began) / total)
    left = min(left, 1000 - width)
    shape = f'x="{left:.1f}" width="{width:.1f}"'
    mark = f'<rect class="mark" {shape} y="13" height="3"/>' if critical else ""
    return (
        '<svg class="course" viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{step.state}" {shape} y="2" height="10"/>{mark}</svg>'
    )


def _outputs(timeline: Timeline) -> Iterator[str]:
    """Yield what steps said: of those that failed all that is kept, of all others until the page is full."""
    said = [step for step in timeline.steps if step.output]
    if not said:
        return
    yield "<h2>Output</h2>"
    room = _MOST_OUTPUTS
    for step in sorted(said, key=lambda step: step.state is not StepState.FAILED):
        text = step.output.decode("utf-8", "replace")
        room -= len(text)
        if room < 0:
            yield '<p class="soft">More stands in the log: pybuild history logs.</p>'
            return
        cut = step.output_bytes - len(step.output)
        more = f"… {human_bytes(cut)} before this …\n" if cut > 0 else ""
        opened = " open" if step.state is StepState.FAILED else ""
        yield (
            f"<details{opened}><summary>#{step.number} {as_text(step.name)} "
            f'<span class="soft">{human_bytes(step.output_bytes)}</span></summary>'
            f"<pre>{more}{as_lines(text)}</pre></details>"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
