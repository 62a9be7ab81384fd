"""``pybuild explain``: which build and which steps are shown, and the exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.commandline import find
from pybuild.commandline.parser import parse
from pybuild.commands import explain
from pybuild.explain.report import BuildReport, Miss, Reason, Status, StepReport
from pybuild.model.errors import UsageError, UserError

STEPS = (
    StepReport(number=1, name="[1/3] FROM base:1234567890", status=Status.CACHED),
    StepReport(
        number=2,
        name="[2/3] RUN make",
        status=Status.RAN,
        seconds=1.0,
        miss=Miss(reason=Reason.NEW),
    ),
    StepReport(number=12, name="[3/3] COPY 2 /", status=Status.UNREACHED),
)
LATEST, OLDER = (
    BuildReport(id=id, at=0.0, seconds=2.0, context=".", dockerfile="Dockerfile", steps=STEPS)
    for id in ("abc", "def")
)


class History:
    """Has two builds, and notes how many were asked for."""

    def __init__(self) -> None:
        self.everything: list[bool] = []

    def reports(self, *, everything: bool) -> list[BuildReport]:
        self.everything.append(everything)
        return [LATEST, OLDER] if everything else [LATEST]


@pytest.fixture
def history() -> Any:
    return History()


def run(history: Any, *words: str) -> int:
    command = find("explain")
    assert command is not None
    return explain.main(parse(words, command.options), history)


def shown(history: Any, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, list[int]]:
    assert run(history, "--format=json", *words) == 0
    report = json.loads(capsys.readouterr().out)
    return report["id"], [step["number"] for step in report["steps"]]


@pytest.mark.parametrize(
    ("words", "build", "numbers"),
    [
        ((), "abc", [1, 2, 12]),
        (("de",), "def", [1, 2, 12]),
        (("2",), "abc", [2]),
        (("#12",), "abc", [12]),
        (("run",), "abc", [2]),
        (("1234567890",), "abc", [1]),  # too long for a number of ours
        (("3]",), "abc", [1, 2, 12]),
        (("def", "COPY"), "def", [12]),
        (("def", "1"), "def", [1]),
    ],
)
def test_a_build_and_its_steps_are_named(
    history: Any,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    build: str,
    numbers: list[int],
) -> None:
    assert shown(history, capsys, *words) == (build, numbers)
    assert history.everything == [bool(words)]


@pytest.mark.parametrize("step", ["3", "nothing", "123456789"])
def test_steps_that_there_are_not(history: Any, step: str) -> None:
    with pytest.raises(UserError) as caught:
        run(history, "abc", step)
    assert caught.value.message == f'build abc has no step "{step}"'
    assert caught.value.hints == ("name its number or a part of its text, such as RUN or 3/5",)


def test_text_is_for_people(history: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(history, "run") == 0
    head, empty, step, why = capsys.readouterr().out.splitlines()
    assert head.startswith("build abc ") and head.endswith(": 1 of 3 steps cached")
    assert (empty, step) == ("", "RAN 1.0s    [2/3] RUN make")
    assert why.strip().startswith("never built")


def test_missed_steps_fail_only_where_that_is_asked(
    history: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(history) == 0
    assert run(history, "--fail-on-miss") == 1
    assert run(history, "--fail-on-miss", "FROM") == 0
    assert run(history, "--fail-on-miss", "RUN") == 1


def test_all_builds_are_listed(history: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(history, "--list") == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["abc", "def"]
    assert run(history, "--list", "--format=json") == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == ["abc", "def"]
    assert history.everything == [True, True]


def test_a_format_that_there_is_not(history: Any) -> None:
    with pytest.raises(UsageError) as caught:
        run(history, "--format=table")
    assert caught.value.message == 'invalid format "table": one of text, json'
    assert history.everything == []
