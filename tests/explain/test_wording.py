"""Each kind of difference, and each reason of a miss, in the words that people read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.explain.difference import Difference
from pybuild.explain.report import BuildReport, CacheMountOrigin, Miss, Reason, Status, StepReport
from pybuild.explain.text import difference_text, miss_lines, refusal, report_text

NAME = "[2/3] RUN make"


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (Difference(field="file.added", path="a", now="directory"), "/a was added (directory)"),
        (Difference(field="file.removed", path="a", was="directory"), "/a was removed"),
        (Difference(field="file.ignored", path="a", now="ignored"), "/a is ignored now"),
        (Difference(field="file.ignored", path="a", was="ignored"), "/a was ignored"),
        (
            Difference(field="file.link", path="l", was="b", now="c"),
            'the link /l led to "b", leads to "c"',
        ),
        (
            Difference(field="file.content", path="a", was="1 bytes", now="2 bytes"),
            "the content of /a differs: 1 bytes; now 2 bytes",
        ),
        (
            Difference(field="file.mode", path="a", was="0644", now="0755"),
            'the mode of /a was "0644", is "0755"',
        ),
        (Difference(field="env.A", was="1", now="2"), 'ENV A was "1", is "2"'),
        (Difference(field="arg.A", now="2"), 'ARG A was not set, is "2"'),
        (Difference(field="env.A", was="1"), 'ENV A was "1", is not set'),
        (Difference(field="env.A", was="", now="1"), 'ENV A was "", is "1"'),
        (Difference(field="env.order", was="A, B", now="B, A"), 'env order was "A, B", is "B, A"'),
        (
            Difference(field="mount.added", now="cache", path="/c"),
            "the cache mount at /c was added",
        ),
        (
            Difference(field="mount.removed", was="bind", path="/c"),
            "the bind mount at /c was removed",
        ),
        (
            Difference(field="mount.size", was="1", now="2", path="/c"),
            'option size of the mount at /c was "1", is "2"',
        ),
        (Difference(field="base", was="a", now="b"), 'the base image was "a", is "b"'),
        (
            Difference(field="base", was="a", now="b", path="x:1"),
            'the base image x:1 was "a", is "b"',
        ),
        (
            Difference(field="commit", was="a", now="b"),
            'what the source stands for was "a", is "b"',
        ),
        (Difference(field="url", was="a", now="b", path="u"), 'what u stands for was "a", is "b"'),
        (
            Difference(field="content", was="x", now="y", path="ctx"),
            "the content of ctx differs (its files are not listed)",
        ),
        (
            Difference(field="parent", was="old", now="old"),
            "the step below is another one: old",
        ),
        (Difference(field="parent", was="old", now="new"), 'the step below was "old", is "new"'),
        (Difference(field="workdir", was="/", now="/src"), 'workdir was "/", is "/src"'),
    ],
)
def test_a_difference_is_a_clause_and_its_note_comes_last(one: Difference, text: str) -> None:
    assert difference_text(one) == text
    noted = Difference(field=one.field, was=one.was, now=one.now, path=one.path, note="line 3")
    assert difference_text(noted) == f"{text} (line 3)"


def test_values_take_one_line_of_bounded_length() -> None:
    def shown(value: str) -> str:
        return difference_text(Difference(field="command", now=value))

    assert shown("a\n  b\tc") == 'command was not set, is "a b c"'
    assert shown("a\x1bb") == 'command was not set, is "a?b"'
    assert shown("x" * 144) == f'command was not set, is "{"x" * 144}"'
    assert shown("x" * 145) == f'command was not set, is "{"x" * 143}…"'


@pytest.mark.parametrize(
    ("miss", "name", "line"),
    [
        (
            Miss(reason=Reason.EVICTED, place="cache:1"),
            NAME,
            "evicted: cache:1 knows it, and its layers are there no more",
        ),
        (
            Miss(reason=Reason.EVICTED),
            NAME,
            "evicted: it was built here, and its result was freed since",
        ),
        (
            Miss(reason=Reason.NEW),
            "[1/3] FROM base",
            "never used: no result here or in an imported cache stands for it",
        ),
        (
            Miss(reason=Reason.NEW),
            NAME,
            "never built: no result here or in an imported cache is like it",
        ),
        (
            Miss(reason=Reason.IGNORED),
            NAME,
            "no stored result was wanted: --no-cache, or a max-age that is over, of it or of what it is made from",
        ),
        (
            Miss(reason=Reason.UNEXPLAINED),
            NAME,
            "nothing that is known of the nearest result differs",
        ),
    ],
)
def test_a_reason_without_differences_is_one_line(miss: Miss, name: str, line: str) -> None:
    assert miss_lines(miss, name) == [line]


def changed(count: int, *, more: int = 0, nearest: str = NAME, place: str = "") -> Miss:
    differences = tuple(Difference(field=f"f{n}", now="1") for n in range(count))
    return Miss(
        reason=Reason.CHANGED, nearest=nearest, place=place, differences=differences, more=more
    )


def test_of_many_differences_five_are_shown_and_the_rest_is_counted() -> None:
    lines = miss_lines(changed(7, more=2), NAME)
    assert lines == [
        'because f0 was not set, is "1"',
        *(f'also    f{n} was not set, is "1"' for n in range(1, 5)),
        "        and 4 more",
    ]
    assert len(miss_lines(changed(5), NAME)) == 5
    assert miss_lines(changed(6), NAME)[-1] == "        and 1 more"


def test_what_it_is_compared_with_is_named_where_that_is_not_plain() -> None:
    assert miss_lines(changed(1), NAME) == ['because f0 was not set, is "1"']
    assert miss_lines(changed(1, nearest="[2/3] RUN\nold"), NAME)[1:] == ["than    [2/3] RUN old"]
    assert miss_lines(changed(1, place="c:1"), NAME)[1:] == [f"than    {NAME} in c:1"]


def step(
    number: int, status: Status, miss: Miss | None = None, seconds: float = 1.25
) -> StepReport:
    return StepReport(
        number=number, name=f"step {number}", status=status, seconds=seconds, miss=miss
    )


def build(*steps: StepReport, error: str = "", target: str = "") -> BuildReport:
    return BuildReport(
        id="abc",
        at=0.0,
        seconds=1.5,
        context="/src",
        dockerfile="Dockerfile",
        target=target,
        error=error,
        steps=steps,
    )


def test_a_build_is_a_headline_and_its_steps() -> None:
    missed = Miss(reason=Reason.NEW)
    report = build(
        step(1, Status.CACHED),
        step(2, Status.RAN, missed),
        step(3, Status.FAILED, seconds=0.5),
        step(4, Status.UNREACHED),
        step(5, Status.MISSED),
        error="it\nfailed",
        target="t",
    )
    headline, *lines = report_text(report).split("\n")
    assert headline.startswith("build abc  ")
    assert headline.endswith("  1.5s  /src (Dockerfile target t): 1 of 5 steps cached")
    assert lines == [
        "failed: it failed",
        "CACHED      step 1",
        "",
        "RAN 1.2s    step 2",
        "            never built: no result here or in an imported cache is like it",
        "FAILED 0.5s step 3",
        "-           step 4",
        "MISSED      step 5",
        "",
    ]


def test_the_origin_of_a_cache_mount_stands_below_its_step() -> None:
    mount = CacheMountOrigin(id="g\x1b", origin="new and empty")
    lines = report_text(build(replace(step(1, Status.RAN), mounts=(mount,)))).splitlines()
    assert lines[2] == '            cache mount "g?": new and empty; it counts in no key'


def test_some_steps_of_a_build_can_be_shown_alone() -> None:
    report = build(step(1, Status.CACHED), step(2, Status.CACHED))
    assert report_text(report, [report.steps[1]]).split("\n")[1:] == ["CACHED      step 2", ""]
    (headline, rest) = report_text(report, []).split("\n")
    assert headline.endswith("/src (Dockerfile): 2 of 2 steps cached")
    assert rest == ""


def test_a_refusal_gives_the_cause_of_the_step_that_was_stopped() -> None:
    ran = step(1, Status.RAN, Miss(reason=Reason.IGNORED))
    assert refusal(build(ran)) == ""
    assert refusal(build(ran, step(2, Status.MISSED))) == ""
    assert refusal(build(ran, step(2, Status.MISSED, changed(1)))) == ': f0 was not set, is "1"'
