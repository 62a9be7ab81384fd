"""Reports of a build for CI systems: annotations, JUnit files, job summaries."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from pybuild.model.digest import Digest
from pybuild.model.errors import StepError, UserError
from pybuild.model.events import (
    BuildWarning,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexStarted,
)
from pybuild.model.span import Span
from pybuild.model.timeline import StepState, Timeline, TimelineReader
from pybuild.progress.annotations import MOST_OF_GITHUB, annotations_of, github, gitlab
from pybuild.progress.jobsummary import job_summary
from pybuild.progress.junit import junit

FAILED = StepError(
    "RUN false: exit code 1",
    status=1,
    step="[2/2] RUN false",
    log_tail=["50%, done", "::error::not ours", "```"],
    spans=[Span("Dockerfile", 3, 4)],
    hints=["look into it"],
)
WARNING = BuildWarning(message="odd", rule="Casing", spans=(Span("Dockerfile", 2, 2),))


def here(path: str) -> str:
    return f"sub/{path}"


def timeline() -> Timeline:
    made = TimelineReader()
    one, two, three = (Digest.of(name) for name in (b"1", b"2", b"3"))
    for vertex, name in (
        (one, "[1/2] FROM base"),
        (two, "[2/2] RUN false"),
        (three, "exporting to image"),
    ):
        made.take(VertexAdded(vertex=vertex, name=name))
    made.take(VertexAdded(vertex=Digest.of(b"0"), name="[internal] load build definition"))
    made.take(VertexStarted(vertex=one, time=100.0))
    made.take(VertexCached(vertex=one, time=100.0))
    made.take(VertexCompleted(vertex=one, time=100.1))
    made.take(VertexStarted(vertex=two, time=101.0))
    made.take(VertexFailed(vertex=two, time=103.5, error="exit code 1"))
    made.take(WARNING)
    return made.timeline()


def test_a_timeline_has_steps_with_their_ends_and_times() -> None:
    assert [(step.name, step.state, step.seconds) for step in timeline().shown] == [
        ("[1/2] FROM base", StepState.CACHED, pytest.approx(0.1)),
        ("[2/2] RUN false", StepState.FAILED, pytest.approx(2.5)),
        ("exporting to image", StepState.WAITING, 0.0),
    ]
    assert timeline().cached == (1, 2)


def test_a_failure_is_a_command_to_githubs_runner_of_one_line() -> None:
    """[BLD-31] Whatever the step wrote is data in it: no line of it is a command of its own."""
    text = github(annotations_of(FAILED, [WARNING, WARNING], here))
    error, warning = text.splitlines()
    assert error == (
        "::error file=sub/Dockerfile,line=3,endLine=4,title=[2/2] RUN false::"
        "RUN false: exit code 1%0Ahint: look into it%0A%0A50%25, done%0A::error::not ours%0A```"
    )
    assert warning == "::warning file=sub/Dockerfile,line=2,endLine=2,title=Casing::odd"


def test_titles_cannot_end_early() -> None:
    bad = BuildWarning(message="m", rule="a:b,c\nd")
    assert github(annotations_of(None, [bad], here)) == "::warning title=a%3Ab%2Cc%0Ad::m\n"


def test_github_gets_no_more_than_it_shows() -> None:
    many = [BuildWarning(message=str(number)) for number in range(30)]
    assert len(github(annotations_of(FAILED, many, here)).splitlines()) == 1 + MOST_OF_GITHUB


def test_gitlab_gets_a_report_of_code_quality() -> None:
    error, warning = json.loads(gitlab(annotations_of(FAILED, [WARNING], here)))
    assert error["location"] == {"path": "sub/Dockerfile", "lines": {"begin": 3}}
    assert error["severity"] == "critical" and warning["check_name"] == "Casing"
    moved = FAILED.copy_with(spans=(Span("Dockerfile", 9, 9),), log_tail=())
    (again,) = json.loads(gitlab(annotations_of(moved, [], here)))
    assert again["fingerprint"] == error["fingerprint"] != warning["fingerprint"]
    assert json.loads(gitlab(annotations_of(UserError("nowhere"), [], here))) == []


def test_a_junit_file_has_a_test_for_each_step() -> None:
    error = FAILED.copy_with(log_tail=("\x00\x1b[31mred\x1b[0m & <b>", "\ufffe"))
    root = ElementTree.fromstring(junit("app", timeline().shown, error))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    cached, failed, later = suite
    assert cached.findtext("system-out") == "cached" and later.find("skipped") is not None
    assert failed.get("time") == "2.500" and failed.get("name") == "[2/2] RUN false"
    assert "red & <b>" in (failed.findtext("failure") or "")


def test_an_error_that_is_no_steps_is_a_failed_test() -> None:
    root = ElementTree.fromstring(junit("app", [], UserError("no such file")))
    case = root.find("testsuite/testcase")
    assert case is not None and case.findtext("failure") == "no such file"
    assert ElementTree.fromstring(junit("app", [], None)).get("tests") == "0"


def test_a_summary_tells_how_a_build_went() -> None:
    reasons = [("[2/2] RUN false", ["because ARG V was 1"], "declare it below")]
    text = job_summary("app", timeline(), FAILED, reasons)
    assert text.startswith("### app: failed in 3.5s, 1 of 2 steps cached (50 %)\n")
    assert "| \\[1/2\\] FROM base | cached |  |  |" in text
    assert "| **failed** | 2.5 s | `······" in text
    assert "- \\[2/2\\] RUN false: because ARG V was 1\n  - declare it below\n" in text
    assert "````text\n50%, done\n::error::not ours\n```\n````" in text
    assert "1 warnings" not in job_summary("app", Timeline(), None)


def test_names_are_text_in_a_summary() -> None:
    made = TimelineReader()
    made.take(VertexAdded(vertex=Digest.of(b"x"), name="[1/1] RUN echo | <img src=x> `a`"))
    assert "RUN echo \\| \\<img src=x\\> \\`a\\`" in job_summary("a", made.timeline(), None)
