"""Terminals as people have them: small, without a cursor, with colours of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from typing import TextIO, cast

import pytest

from pybuild.commandline import every
from pybuild.commandline.help import EXAMPLES, GROUPS, TOPICS, overview, topic, usage
from pybuild.model.advice import UNSET_IN_RUN
from pybuild.model.digest import Digest
from pybuild.model.errors import StepError, UserError
from pybuild.model.events import (
    Event,
    LogStream,
    VertexAdded,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from pybuild.model.span import Span
from pybuild.progress.display import make_display
from pybuild.progress.folding import folded
from pybuild.progress.plain import PlainDisplay
from pybuild.progress.render import report, text
from pybuild.progress.screen import BLUE, RED, YELLOW, painted, result_line
from pybuild.progress.terminalguard import TerminalGuard
from pybuild.progress.tty import TtyDisplay

STEPS = [Digest.of(bytes([number])) for number in range(12)]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "BUILDKIT_COLORS", "BUILDKIT_TTY_LOG_LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def frame(events: list[Event], columns: int = 80, lines: int = 23) -> list[str]:
    display = TtyDisplay(StringIO(), lambda: 10.0, animate=False)
    for event in events:
        display.show(event)
    return display.frame(columns, lines)


def running(count: int, log: Callable[[int], int]) -> list[Event]:
    """Return the events of *count* steps that run, each with as many lines as *log* says."""
    events: list[Event] = []
    for number, vertex in enumerate(STEPS[:count]):
        data = b"".join(b"line %d\n" % line for line in range(log(number)))
        events += [
            VertexAdded(vertex=vertex, name=f"step {number}"),
            VertexStarted(vertex=vertex, time=9.0),
            VertexLog(vertex=vertex, time=9.5, stream=LogStream.STDOUT, data=data),
        ]
    return events


@pytest.mark.parametrize("count", [1, 3, 4, 8, 12])
def test_each_running_step_is_seen_on_a_small_terminal(count: int) -> None:
    shown = frame(running(count, lambda _: 6))
    assert len(shown) <= 23
    for number in range(count):
        assert any(f"=> step {number} " in line for line in shown)
    assert (
        shown[-1].endswith("line 5\x1b[0m") or count == 12
    )  # the latest lines are those that stay


def test_who_says_least_loses_nothing() -> None:
    shown = frame(running(5, lambda number: 1 if number < 4 else 6), lines=13)
    assert sum("line 0" in line for line in shown) == 4
    assert sum("line 5" in line for line in shown) == 1


def test_digests_are_shortened_before_amounts() -> None:
    progress = VertexProgress(
        vertex=STEPS[0],
        id=f"sha256:{'ab' * 32}",
        current=10**6,
        total=10**7,
        unit="bytes",
        time=9.0,
    )
    events = [*running(1, lambda _: 0), progress]
    assert frame(events)[-1] == " => => abababababab 1.00MB / 10.00MB"
    assert frame(events, columns=120)[-1] == f" => => sha256:{'ab' * 32} 1.00MB / 10.00MB"


def test_a_pull_is_headed_so(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    make_display("auto", "Pulling").close()
    assert "[+] Pulling 0." in out.getvalue()


def test_a_terminal_without_a_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display("auto"), PlainDisplay)
    assert painted("x", RED) == "x"


def test_colours_are_what_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_COLORS", "run=green:error=255,0,10:cancel=nope:x:warning=1,2")
    assert painted("x", BLUE) == "\x1b[32mx\x1b[0m"
    assert painted("x", RED) == "\x1b[38;2;255;0;10mx\x1b[0m"
    assert painted("x", YELLOW) == f"{YELLOW}x\x1b[0m"
    monkeypatch.setenv("BUILDKIT_COLORS", "run=light-cyan:error=300,0,0")
    assert painted("x", BLUE) == "\x1b[96mx\x1b[0m"
    assert painted("x", RED) == f"{RED}x\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted("x", BLUE) == "x"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert painted("x", BLUE) == "\x1b[96mx\x1b[0m"
    monkeypatch.setenv("FORCE_COLOR", "0")
    assert painted("x", BLUE) == "x"


FAILED = StepError(
    "it failed",
    status=3,
    log_tail=["one", "two\x1b[2J"],
    step="[2/3] RUN make",
    spans=[Span("D", 7, 8)],
)


_ADVICE = UNSET_IN_RUN.warning(
    "VERSON", "did you mean $VERSION?", spans=(Span("Dockerfile", 3, 3),)
)
_SAID = "UnsetInRun: $VERSON has no value in this RUN: did you mean $VERSION? (line 3)"


def test_advice_is_in_sight_while_a_build_runs_and_listed_once_at_its_end() -> None:
    out = Terminal()
    display = TtyDisplay(out, lambda: 10.0, animate=False)
    for event in [*running(1, lambda _: 0), _ADVICE]:
        display.show(event)
    display.draw(final=False)
    assert f" ! {_SAID}"[:60] in out.getvalue()
    display.close()
    shown = " ".join(line.strip() for line in out.getvalue().split("\x1b[J")[-1].splitlines())
    assert shown.endswith(f"1 warning found: - {_SAID}")


def test_plain_progress_has_advice_at_once_and_once() -> None:
    out = StringIO()
    display = PlainDisplay(out)
    display.show(_ADVICE)
    assert out.getvalue() == f"warning: {_SAID}\n"
    display.close()
    assert out.getvalue() == f"warning: {_SAID}\n"


def test_an_error_on_a_terminal_is_seen() -> None:
    out = Terminal()
    report(FAILED, cast("TextIO", TerminalGuard(out)))
    shown = out.getvalue()
    assert shown.startswith(
        f"------\n{RED} > [2/3] RUN make:\x1b[0m\n| one\n| two\n------\n{RED}error:\x1b[0m it failed\n"
    )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_of_an_error_is_wider_than_the_terminal(columns: int) -> None:
    error = UserError(
        '"requirements/production.txt" is not in the context',
        hints=("it is at deploy/production.txt: paths begin in the context",),
        spans=(Span("Dockerfile", 1, 1),),
        sources={"Dockerfile": ["COPY requirements/production.txt /srv/app/requirements/now.txt"]},
    )
    lines = folded(text(error), columns).split("\n")
    assert all(len(line) <= columns for line in lines)
    joined = " ".join(line.strip() for line in lines[:-2])
    assert error.message in joined and error.hints[0] in joined


def test_an_error_is_folded_between_words_below_its_beginning() -> None:
    shown = folded(
        "error: one two three four five\nhint: six\n   1 | >>> RUN seven eight nine\n", 20
    )
    assert shown == "error: one two three\n       four five\nhint: six\n   1 | >>> RUN seve…\n"


def test_words_of_a_step_are_folded_and_none_is_lost() -> None:
    assert folded("| " + "x" * 30, 20) == "| " + "x" * 18 + "\n| " + "x" * 12
    assert folded("hint: " + "x" * 20, 20) == "hint: " + "x" * 14 + "\n      " + "x" * 6
    assert folded("a long line of text", 5) == "a long line of text"


def test_an_error_in_a_file_has_no_colours() -> None:
    out = StringIO()
    report(FAILED, out)
    assert out.getvalue().startswith(
        "------\n > [2/3] RUN make:\n| one\n| two\x1b[2J\n------\nerror: it failed\n"
    )


def test_an_error_knows_its_step_its_log_and_its_line() -> None:
    assert (FAILED.step, FAILED.log, FAILED.line) == ("[2/3] RUN make", "one\ntwo\x1b[2J", 7)
    assert StepError("x", status=1).line == 0


def test_a_build_ends_with_its_image() -> None:
    id = "sha256:" + "0123456789abcdef" * 4
    names = ("docker.io/library/app:1", "docker.io/me/app:2", "r.example/x:3")
    assert result_line(names, id) == "image app:1, me/app:2, r.example/x:3 (0123456789ab)\n"
    assert result_line((), id) == (
        "untagged: kept as 0123456789ab, until its next build (name it with -t NAME)\n"
    )


# --- help -----------------------------------------------------------------------------------------


def test_pages_have_groups_examples_and_topics() -> None:
    names = {command.name: command for command in every()}
    assert EXAMPLES.keys() <= names.keys()
    for name, groups in GROUPS.items():
        grouped = [option for options in groups.values() for option in options.split()]
        assert len(grouped) == len(set(grouped))
        assert set(grouped) <= {option.name for option in names[name].options}
        page = usage(names[name])
        assert all(f"\n{head}:\n" in page for head in (*groups, "examples"))
        for option in names[name].options:
            assert page.count(f"--{option.name} ") >= 1 or f"--{option.name}\n" in page
    for name in TOPICS:
        assert name not in names and topic(name).endswith("\n") and name in overview()
        assert all(len(line) <= 100 for line in topic(name).splitlines())
    assert topic("nothing") == ""
