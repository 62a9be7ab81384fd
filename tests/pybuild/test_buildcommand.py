"""``pybuild build`` around a builder: progress, result files, questions about a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.commandline.building import BUILD
from pybuild.commandline.parser import parse
from pybuild.commands import build, check
from pybuild.explain.report import BuildReport
from pybuild.exporter.resultfiles import check_result_files
from pybuild.frontend.question import FileAnswer, Question
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.events import Emit, VertexAdded, VertexCached

ID = Digest.of(b"image")
REPORT = BuildReport(id="abc", at=0.0, seconds=1.0, context=".", dockerfile="Dockerfile")


class FakeBuilder:
    """Makes each build at once, with one cached step."""

    def __init__(self, result: BuildResult | PybuildError) -> None:
        self.result = result
        self.explained: list[bool] = []
        self.questions: list[tuple[Question, BuildRequest]] = []
        self.file_answer = FileAnswer(text="text\n", json="{}\n")

    def build(
        self,
        request: BuildRequest,
        emit: Emit,
        explained: Callable[[BuildReport], None] | None = None,
    ) -> BuildResult:
        self.explained.append(explained is not None)
        emit(VertexAdded(vertex=ID, name="step"))
        emit(VertexCached(vertex=ID, time=0.0))
        if explained is not None:
            explained(REPORT)
        if isinstance(self.result, PybuildError):
            raise self.result
        return self.result

    def answer(self, question: Question, request: BuildRequest) -> FileAnswer:
        self.questions.append((question, request))
        return self.file_answer


@pytest.fixture
def builder() -> Any:
    return FakeBuilder(BuildResult(image_id=ID, metadata={"a": 1}))


@pytest.fixture(autouse=True)
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILDKIT_PROGRESS", raising=False)


def run(builder: Any, *words: str, by: Any = build) -> int:
    status = by.main(parse([*words, "ctx"], BUILD.options), builder)
    assert isinstance(status, int)
    return status


STEP = "#1 step\n#1 CACHED\n\n"


@pytest.mark.parametrize(
    ("words", "setting", "out", "err"),
    [
        ((), "", "", STEP),
        (("--quiet",), "", f"{ID}\n", ""),
        (("--quiet", "--progress=plain"), "plain", f"{ID}\n", ""),
        (("--progress=none",), "plain", "", ""),
        ((), "quiet", "", ""),
        (("--progress=plain",), "quiet", "", STEP),
    ],
)
def test_progress_is_that_of_the_option_else_of_the_environment(
    builder: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    setting: str,
    out: str,
    err: str,
) -> None:
    if setting:
        monkeypatch.setenv("BUILDKIT_PROGRESS", setting)
    assert run(builder, *words) == 0
    assert capsys.readouterr() == (out, err)
    assert builder.explained == [False]


def test_a_build_without_an_image_has_no_id(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    builder: Any = FakeBuilder(BuildResult())
    file = tmp_path / "id"
    assert run(builder, "-q", f"--iidfile={file}") == 0
    assert capsys.readouterr().out == "\n"
    assert not file.exists()


def test_results_are_written(builder: Any, tmp_path: Path) -> None:
    id, metadata = tmp_path / "id", tmp_path / "metadata"
    assert run(builder, f"--iidfile={id}") == 0
    assert (id.read_text(), metadata.exists()) == (ID, False)
    id.unlink()
    assert run(builder, f"--metadata-file={metadata}") == 0
    assert metadata.read_text() == '{\n  "a": 1\n}\n'
    assert not id.exists()


@pytest.mark.parametrize("option", ["iidfile", "metadata-file"])
def test_files_that_cannot_be_written_are_refused_before_the_build(
    builder: Any, tmp_path: Path, option: str
) -> None:
    with pytest.raises(PybuildError):
        run(builder, f"--{option}={tmp_path}/none/file")
    assert builder.explained == []
    check_result_files(f"{tmp_path}/file")
    assert list(tmp_path.iterdir()) == []


def test_a_build_is_explained_at_its_end_also_if_it_fails(
    builder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(builder, "--explain") == 0
    assert capsys.readouterr().err.startswith(f"{STEP}build abc ")
    builder.result = UserError("no")
    with pytest.raises(UserError):
        run(builder, "--explain")
    assert "build abc " in capsys.readouterr().err
    assert builder.explained == [True, True]


# --- questions ------------------------------------------------------------------------------------


def test_a_question_gets_its_answer_as_text_or_json(
    builder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(builder, "--call=outline", by=check) == 0
    assert capsys.readouterr() == ("text\n", "")
    assert run(builder, "--call=targets,format=json", "--target=t", "-f", "d", by=check) == 0
    assert capsys.readouterr() == ("{}\n", "")
    (one, _), (two, request) = builder.questions
    assert (one, two) == (Question.OUTLINE, Question.TARGETS)
    assert (request.context, request.target, request.dockerfile) == ("ctx", "t", "d")


def test_a_question_has_what_a_build_has(builder: Any, tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    words = ("--build-arg=A=1", "--build-context=n=x", "--platform=linux/arm64", "--pull")
    assert run(builder, "--check", *words, f"--secret=id=s,src={tmp_path}/s", by=check) == 0
    ((question, request),) = builder.questions
    assert question is Question.CHECK
    assert (request.build_args, request.named_contexts) == ({"A": "1"}, {"n": "x"})
    assert ([str(one) for one in request.platforms], request.pull) == (["linux/arm64"], True)
    assert (list(request.secrets), request.ssh) == (["s"], ())


@pytest.mark.parametrize(
    ("call", "clean", "status"),
    [
        ("check", True, 0),
        ("check", False, 1),
        ("check,ignorestatus", False, 0),
        ("check,ignorestatus=1", False, 0),
        ("check,ignorestatus=false", False, 1),
        ("check,ignorestatus=0", False, 1),
    ],
)
def test_the_status_says_whether_there_is_something_to_mend(
    builder: Any, call: str, clean: bool, status: int
) -> None:
    builder.file_answer = FileAnswer(text="", json="", is_clean=clean)
    assert run(builder, f"--call={call}", by=check) == status


def test_an_error_is_shown_below_a_text_and_is_in_the_json(
    builder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    error = UserError("wrong")
    builder.file_answer = FileAnswer(text="t\n", json="j\n", error=error, is_clean=False)
    assert run(builder, "--check", by=check) == 1
    assert capsys.readouterr() == ("t\n", "error: wrong\n")
    assert run(builder, "--call=check,format=json", by=check) == 1
    assert capsys.readouterr() == ("j\n", "")


def test_a_call_of_build_is_a_build(builder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--call=build",), ("--check=false",)):
        assert run(builder, *words, "-q", by=check) == 0
        assert capsys.readouterr().out == f"{ID}\n"
    assert builder.questions == []


def test_metadata_is_json(builder: Any, tmp_path: Path) -> None:
    builder.result = BuildResult(metadata={"ä": {"b": [1]}})
    assert run(builder, f"--metadata-file={tmp_path}/m") == 0
    assert json.loads((tmp_path / "m").read_text()) == {"ä": {"b": [1]}}
