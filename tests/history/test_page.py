"""The page of a build: whole, without scripts, and safe for whatever a build has said."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pybuild.builds.buildrecord import BuildStatus
from pybuild.history.page import page_of
from pybuild.model.digest import Digest
from pybuild.model.events import (
    Event,
    LogStream,
    VertexAdded,
    VertexCompleted,
    VertexLog,
    VertexStarted,
)
from pybuild.model.timeline import timeline_of
from tests.history.pastbuilds import AT, BASE, RECORD, REPORT, SLOW, events, failing

REASONS = {step.name: step for step in REPORT.steps}
_VOID = {"meta", "link", "br", "rect"}


class Reader(HTMLParser):
    """Reads a page: its elements with their attributes, and its text; elements must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_a_page_has_the_build_its_course_and_why_steps_ran() -> None:
    page = read(page_of(RECORD, timeline_of(events(), AT), REASONS))
    for words in (
        "completed", "build 0d0d0d0d", "2001-09-09 01:46:40 UTC", "12.0s", "4 of 5, 20 % of them from the cache",
        "V=1, W=", "app:1", "The critical path has 4 steps and 9.5s of work", "because ENV V was",
        "reads #2, #3", "compiling\ndone", "15B", "11.25 s", "70.00MB",
    ):  # fmt: skip
        assert words in page.text, words
    bars = [attrs for tag, attrs in page.elements if tag == "rect"]
    assert {"class": "ran", "x": "272.7", "width": "545.5", "y": "2", "height": "10"} in bars
    assert [one["class"] for one in bars].count("mark") == 4
    assert "made up" not in page.text


def test_a_failed_build_says_so_and_shows_its_output_at_once() -> None:
    broken = replace(RECORD, status=BuildStatus.ERROR, error="exit code: 1\n second line")
    page = read(page_of(broken, timeline_of(failing(), AT), {}))
    assert "exit code: 1 second line" in page.text
    assert "failed build 0d0d0d0d" in page.text
    assert "1 step did not begin." in page.text
    assert ("details", {"open": None}) in page.elements


def test_a_build_that_goes_on_is_drawn_up_to_now() -> None:
    page = read(page_of(replace(RECORD, seconds=None), timeline_of(failing()[:7], AT), {}))
    assert "2.0s so far" in page.text
    assert "running" in page.text


ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></details><iframe src='//evil'>",
    "</style><script>x</script>",
    "<!-- -->]]><svg onload=alert(1)>",
    "javascript:alert(1)",
    "&lt;b&gt;",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_a_build_becomes_markup(attack: str) -> None:
    """Shows 2 of the page: names, targets, arguments, errors and outputs are whatever somebody wrote."""
    record = replace(
        RECORD, id=attack, name=attack, error=attack, context=attack, target=attack, args=(attack,), tags=(attack,),
        images=(attack,), dockerfile=attack,
    )  # fmt: skip
    said: list[Event] = [
        VertexAdded(vertex=SLOW, name=attack, stage=attack),
        VertexStarted(vertex=SLOW, time=AT + 1),
        VertexLog(vertex=SLOW, time=AT + 1, stream=LogStream.STDOUT, data=attack.encode() + b"\n"),
        VertexCompleted(vertex=SLOW, time=AT + 2),
    ]
    report = replace(REPORT.steps[0], name=attack)
    page = read(page_of(record, timeline_of(said, AT), {attack: report}))
    plain = read(page_of(RECORD, timeline_of(events(), AT), REASONS))
    assert set(page.tags) <= {*plain.tags, "p"}
    assert page.tags.count("script") == 0
    assert page.text.count(attack) >= 10
    names = {name for _, attrs in page.elements for name in attrs}
    assert names <= {name for _, attrs in plain.elements for name in attrs}


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = page_of(RECORD, timeline_of(events(), AT), REASONS)
    policy = next(attrs for _, attrs in read(page).elements if "http-equiv" in attrs)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in page
    assert "http://" not in page.replace("http-equiv", "")


def test_commands_to_a_terminal_are_left_out_and_lines_written_over_too() -> None:
    said: list[Event] = [
        VertexAdded(vertex=SLOW, name="[1/1] RUN \x1b]0;title\x07x"),
        VertexStarted(vertex=SLOW, time=AT),
        VertexLog(vertex=SLOW, time=AT, stream=LogStream.STDOUT, data=b" 1 %\r50 %\r\x1b[31mred\x1b[0m\r\n\xff\n"),
    ]  # fmt: skip
    page = page_of(RECORD, timeline_of(said, AT), {})
    assert "\x1b" not in page
    assert "\x07" not in page
    assert "<pre>red\n\ufffd\n</pre>" in page


def test_a_page_stays_of_a_bearable_size() -> None:
    said: list[Event] = []
    for number in range(100):
        vertex = BASE if number == 0 else Digest.of(f"step {number}".encode())
        said += [
            VertexAdded(vertex=vertex, name=f"[{number}/100] RUN {'x' * 5000}"),
            VertexStarted(vertex=vertex, time=AT),
            VertexLog(vertex=vertex, time=AT, stream=LogStream.STDOUT, data=b"line\n" * 20_000),
        ]
    page = page_of(RECORD, timeline_of(said, AT), {})
    assert len(page) < 3_000_000
    assert "More stands in the log: pybuild history logs." in page
    assert "… 34.46kB before this …" in page
