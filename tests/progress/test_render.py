"""Error text, to the letter (STYLE section 6)."""

import os
from io import StringIO
from pathlib import Path

import pytest

from pybuild.model.errors import (
    EnvironmentFault,
    ExitCode,
    InternalError,
    PybuildError,
    StepError,
    UserError,
)
from pybuild.model.excerpt import excerpt
from pybuild.model.span import Span
from pybuild.progress.render import report

LINES = ["FROM golang:1.22 AS build", "WORKDIR /src", "RUN --mont=x go build", "FROM scratch"]


def rendered(error: BaseException) -> tuple[str, int]:
    out = StringIO()
    code = report(error, out)
    return out.getvalue(), code


def test_the_words_of_buildkit_are_for_who_debugs() -> None:
    error = UserError("no", peer="failed to solve: no")
    assert rendered(error) == ("error: no\n", ExitCode.BUILD_FAILURE)
    out = StringIO()
    report(error, out, debug=True)
    assert "BuildKit says: failed to solve: no\n" in out.getvalue()
    assert "BuildKit says" not in rendered(UserError("no"))[0]


def test_a_span_prints_its_marked_lines_with_two_around() -> None:
    error = UserError(
        "unknown flag: --mont",
        spans=[Span("Dockerfile", 3, 3)],
        hints=["try --mount"],
        sources={"Dockerfile": LINES},
    )
    text, code = rendered(error)
    assert code == ExitCode.BUILD_FAILURE
    assert text == (
        "error: unknown flag: --mont\n"
        "hint: try --mount\n"
        "Dockerfile:3\n"
        "   1 |     FROM golang:1.22 AS build\n"
        "   2 |     WORKDIR /src\n"
        "   3 | >>> RUN --mont=x go build\n"
        "   4 |     FROM scratch\n"
    )


def test_a_failed_step_shows_its_last_lines_first() -> None:
    error = StepError("process did not complete", status=3, log_tail=["one", "two"])
    assert rendered(error)[0] == "------\n| one\n| two\n------\nerror: process did not complete\n"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\r"])
def test_nothing_that_others_wrote_begins_a_line(end: str) -> None:
    """CI systems obey such lines, white space before them or not."""
    evil = f"q{end}::add-mask::x{end} ::stop-commands::y"
    error = StepError(f"no file {evil}", status=1, log_tail=[evil, "::z"], hints=[f"try {evil}"])
    error = error.with_spans((Span("Dockerfile", 1, 1),)).showing(
        {"Dockerfile": [f"COPY {evil} /"]}
    )
    for shown in (error, OSError(2, "No such file", evil), ValueError(evil)):
        text, _ = rendered(shown)
        assert "add-mask" in text and "\r" not in text
        assert not any(line.lstrip().startswith("::") for line in text.split("\n"))


def test_a_span_of_a_file_that_is_gone_still_says_where() -> None:
    assert excerpt(Span("/nonexistent/Dockerfile", 7, 7), None) == ["/nonexistent/Dockerfile:7"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EnvironmentFault("disk full"), ExitCode.ENVIRONMENT),
        (InternalError("edge completed twice"), ExitCode.INTERNAL),
        (OSError(28, "No space left on device", "/store"), ExitCode.ENVIRONMENT),
        (KeyError("x"), ExitCode.INTERNAL),
    ],
)
def test_each_kind_has_its_exit_code_and_no_traceback(error: Exception, code: int) -> None:
    text, got = rendered(error)
    assert got == code
    assert "Traceback" not in text


def test_the_cause_is_taken_out_of_exception_groups() -> None:
    group = ExceptionGroup("unhandled", [ValueError("x"), ExceptionGroup("g", [UserError("real")])])
    wrapped: BaseException = ExceptionGroup("outer", [group.exceptions[1]])
    assert rendered(wrapped) == ("error: real\n", ExitCode.BUILD_FAILURE)


def test_every_error_class_has_an_exit_code_of_its_kind() -> None:
    assert {cls.exit_code for cls in PybuildError.__subclasses__()} == {
        ExitCode.BUILD_FAILURE,
        ExitCode.ENVIRONMENT,
        ExitCode.INTERNAL,
        ExitCode.CANCELLED,
    }


def test_a_directory_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        os.path.abspath(".")
    told = "error: the current directory is gone: no such file or directory\n"
    assert rendered(caught.value) == (told, ExitCode.ENVIRONMENT)
