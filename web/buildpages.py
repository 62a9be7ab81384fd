"""The pages of builds: all that are kept, and one of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.builds.keptbuilds import kept_builds, replay_build
from pybuild.cache.store import Store
from pybuild.explain.history import reports
from pybuild.explain.report import StepReport
from pybuild.history.markup import as_text
from pybuild.history.page import body_of, head_of
from pybuild.model.amounts import human_duration
from pybuild.model.errors import UserError
from pybuild.model.events import Event
from pybuild.model.timeline import Timeline, timeline_of
from pybuild.web.access import PageRefusal
from pybuild.web.frame import LIVE, framed

_LIVE = (
    '<h2>Steps</h2>\n<p id="now" class="soft" role="status">waiting</p>\n<div id="live"></div>\n'
    "<noscript><p>Load the page again to see how far it is: it follows a build by a script.</p></noscript>"
)


def list_page(store: Store) -> str:
    """Return the page of all builds."""
    records = kept_builds(store)
    records.sort(key=lambda record: record.status is not BuildStatus.RUNNING)
    return framed("Builds", "\n".join(_listed(records, store.clock.now())))


def build_page(store: Store, id: str) -> str:
    """Return the page of one build.

    Raises:
        PageRefusal: there is none of that id.
    """
    record = next((one for one in kept_builds(store) if one.id == id), None)
    if record is None:
        raise PageRefusal(404, "no build of that id is kept here")
    title = f"build {record.id}: {record.name}"
    if record.status is BuildStatus.RUNNING:
        took = max(0.0, store.clock.now() - record.at)
        return framed(title, "\n".join((*head_of(record, Timeline(seconds=took)), _LIVE)), LIVE)
    events: list[Event] = []
    try:
        replay_build(store, id, events.append)
    except UserError as error:
        raise PageRefusal(404, error.message) from error
    reasons: dict[str, StepReport] = {}
    for report in reports(store):
        if report.id == id:
            reasons = {step.name: step for step in report.steps}
            break
    body = body_of(record, timeline_of(events, record.at), reasons)
    return framed(title, body)


def _listed(records: Sequence[BuildRecord], now: float) -> Iterator[str]:
    yield "<h1>Builds</h1>"
    if not records:
        yield "<p>No build is known here yet.</p>"
        return
    yield '<div class="wide"><table class="builds"><thead><tr><th scope="col">state</th><th scope="col">build</th>'
    yield '<th scope="col" class="number more">steps</th><th scope="col" class="number">time</th>'
    yield '<th scope="col" class="more">began</th><th scope="col" class="more">tags</th></tr></thead><tbody>'
    for record in records:
        took = now - record.at if record.seconds is None else record.seconds
        cached = f", {record.cached} cached" if record.cached else ""
        steps = f"{record.completed}/{record.total}{cached}" if record.total else ""
        began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.at))
        state = "failed" if record.status is BuildStatus.ERROR else record.status
        yield (
            f'<tr><td><span class="state {state}">{state}</span></td>'
            f'<td class="name"><a href="/builds/{as_text(record.id)}">{as_text(record.name or record.id)}</a></td>'
            f'<td class="number more">{steps}</td><td class="number">{human_duration(max(0.0, took))}</td>'
            f'<td class="more">{began}</td><td class="more">{as_text(", ".join(record.tags))}</td></tr>'
        )
    yield "</tbody></table></div>"
