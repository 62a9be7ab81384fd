"""Lines for terminals and logs, to the column."""

from __future__ import annotations

import os
import pty
import sys
from io import StringIO

import pytest

from pybuild.model.errors import UsageError
from pybuild.progress.display import Silent, make_display
from pybuild.progress.plain import PlainDisplay
from pybuild.progress.rawjson import RawJsonDisplay
from pybuild.progress.screen import (
    BLUE,
    clean,
    fit,
    numbered,
    pad,
    painted,
    size_of,
    step_row,
    width,
)
from pybuild.progress.terminalguard import TerminalGuard, direct, guard
from pybuild.progress.tty import TtyDisplay


def test_a_line_of_the_log_is_one_line() -> None:
    assert numbered(3, "a\nb\r\nc") == "#3 a b c\n"
    assert numbered(12, "") == "#12 \n"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("", 0),
        ("é", 1),
        ("e\u0301", 1),
        ("基本", 4),
        ("a基", 3),
        ("\u200d", 0),
        ("Ｆ", 2),
    ],
)
def test_width_is_that_of_a_terminal(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "fitted"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("abcd", 1, "…"),
        ("abcd", 0, ""),
        ("", 0, ""),
        ("基本基", 6, "基本基"),
        ("基本基", 5, "基本…"),
        ("基本基", 4, "基…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)
def test_text_is_cut_to_its_columns(text: str, columns: int, fitted: str) -> None:
    assert fit(text, columns) == fitted
    assert width(fitted) <= columns


def test_text_is_filled_up_to_its_columns() -> None:
    assert pad("ab", 4) == "ab  "
    assert pad("基", 4) == "基  "
    assert pad("abcd", 2) == "abcd"


def test_a_step_has_its_time_at_the_right() -> None:
    assert step_row("RUN x", "1.5s", 20) == " => RUN x       1.5s"
    assert step_row("RUN a long one", "1.5s", 20) == " => RUN a long… 1.5s"
    assert step_row("RUN", "10.5s", 8) == " => … 1…"


def test_colours_are_left_out_for_who_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painted("x", BLUE) == "\x1b[34mx\x1b[0m"
    assert painted("x", "") == "x"
    monkeypatch.setenv("NO_COLOR", "")
    assert painted("x", BLUE) == "x"


def test_what_others_wrote_is_one_row() -> None:
    assert clean("a\tb\nc\x1b[2Jd\r") == "a    b cd"


def test_the_size_is_that_of_the_stream() -> None:
    assert size_of(StringIO()) == (80, 24)
    with open(os.devnull) as file:
        assert size_of(file) == (80, 24)
    master, slave = pty.openpty()
    with os.fdopen(master, "rb"), os.fdopen(slave, "w") as terminal:
        assert size_of(terminal) == (80, 24)  # which says 0 by 0


def test_a_guard_takes_commands_out_and_says_all_was_written() -> None:
    out = StringIO()
    guarded = TerminalGuard(out)
    assert guarded.write("a\x1b[2Jb") == 6
    guarded.writelines(["c\x07", "d\n"])
    assert out.getvalue() == "abcd\n"
    assert guarded.getvalue() == "abcd\n"  # all else is the stream's
    assert direct(guarded) is out  # type: ignore[arg-type]  # pyright: ignore
    assert direct(out) is None


def test_guards_stand_before_the_streams_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = StringIO(), StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    guard("stderr")
    sys.stdout.write("\x1b[1mo")
    sys.stderr.write("\x1b[1me")
    assert (out.getvalue(), err.getvalue()) == ("\x1b[1mo", "e")


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_views_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", StringIO())
    assert type(make_display("auto")) is PlainDisplay
    assert type(make_display("plain")) is PlainDisplay
    assert type(make_display("rawjson")) is RawJsonDisplay
    assert type(make_display("quiet")) is type(make_display("none")) is Silent
    with pytest.raises(UsageError) as caught:
        make_display("fancy")
    assert caught.value.message == (
        'unknown progress "fancy": one of auto, tty, plain, quiet, none, rawjson'
    )


@pytest.mark.parametrize("kind", ["auto", "tty"])
def test_a_terminal_is_drawn_on_beneath_its_guard(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", TerminalGuard(terminal))
    display = make_display(kind)
    display.close()
    assert type(display) is TtyDisplay
    assert terminal.getvalue().startswith("\x1b[2K[+] Building 0.")
