"""``build --check``, ``--call``, ``lint``: words in, text and exit code out; nothing is built."""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pybuild.cli import main
from pybuild.commandline.building import BUILD
from pybuild.commandline.parser import parse
from pybuild.engine.knownimages import KnownImages
from pybuild.frontend.question import CallOption, Question, parse_call
from pybuild.model.errors import UsageError

TWO = "FROM scratch AS Base\nENV k v\nFROM scratch\nCOPY $x /\n"

TWO_SHOWN = """\
Check complete, 3 warnings have been found!

WARNING: StageNameCasing - pybuild lint --explain StageNameCasing
Stage name 'Base' should be lowercase
Dockerfile:1
   1 | >>> FROM scratch AS Base
   2 |     ENV k v
   3 |     FROM scratch

WARNING: LegacyKeyValueFormat - pybuild lint --explain LegacyKeyValueFormat
"ENV key=value" should be used instead of legacy "ENV key value" format
Dockerfile:2
   1 |     FROM scratch AS Base
   2 | >>> ENV k v
   3 |     FROM scratch
   4 |     COPY $x /

WARNING: UndefinedVar - pybuild lint --explain UndefinedVar
Usage of undefined variable '$x'
Dockerfile:4
   2 |     ENV k v
   3 |     FROM scratch
   4 | >>> COPY $x /
"""


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "store"))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


def write(context: Path, text: str) -> str:
    (context / "Dockerfile").write_text(text)
    return str(context)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


def test_check_shows_warnings_of_all_stages_and_fails(
    context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(context, TWO)
    for words in (("build", "--check"), ("build", "--call=check"), ("--call", "check")):
        assert run(capsys, *words, path) == (1, TWO_SHOWN, "")
    status, out, _ = run(capsys, "build", "--check", "--target=base", path)
    assert (status, out.count("WARNING")) == (1, 2)


def test_a_clean_file_passes(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(context, "FROM scratch\nCOPY x /\n")
    assert run(capsys, "build", "--check", path) == (0, "Check complete, no warnings found.\n", "")
    (context / ".dockerignore").write_text("x\n")
    status, out, _ = run(capsys, "build", "--check", path)
    assert (status, "CopyIgnoredFile" in out) == (1, True)


def test_status_can_be_ignored(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(context, TWO)
    assert run(capsys, "build", "--call=check,ignorestatus", path) == (0, TWO_SHOWN, "")


def test_check_as_json(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(context, TWO.replace("COPY $x", "# check=skip=UndefinedVar\nCOPY $x"))
    status, out, err = run(capsys, "build", "--call=check,format=json", path)
    found: dict[str, Any] = json.loads(out)
    assert (status, err, sorted(found)) == (1, "", ["sources", "warnings"])
    first = found["warnings"][0]
    description = first.pop("description")
    assert description
    assert first == {
        "ruleName": "StageNameCasing",
        "url": "pybuild lint --explain StageNameCasing",
        "detail": "Stage name 'Base' should be lowercase",
        "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
    }
    (source,) = found["sources"]
    assert base64.b64decode(source.pop("data")) == (context / "Dockerfile").read_bytes()
    assert source == {"filename": "Dockerfile", "language": "Dockerfile"}


def test_what_is_above_an_error_is_checked_too(
    context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(context, "FROM scratch AS Base\nMAINTAINER x\nNONE\n")
    status, out, err = run(capsys, "build", "--check", path)
    assert (status, out.count("WARNING")) == (1, 2)
    assert err == (
        "error: dockerfile parse error on line 3: unknown instruction: NONE\n"
        "Dockerfile:3\n"
        "   1 |     FROM scratch AS Base\n"
        "   2 |     MAINTAINER x\n"
        "   3 | >>> NONE\n"
    )
    _, out, _ = run(capsys, "build", "--call=check,format=json", path)
    assert json.loads(out)["buildError"] == {
        "message": "dockerfile parse error on line 3: unknown instruction: NONE",
        "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]},
    }


def test_a_file_can_make_its_findings_errors(
    context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(context, "# check=error=true\nFROM scratch AS Base\n")
    status, out, err = run(capsys, "build", "--check", path)
    assert (status, out.count("WARNING")) == (1, 1)
    assert err.startswith("error: lint violation found for rules: StageNameCasing\nDockerfile:2\n")
    arg = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all"
    assert run(capsys, "build", "--check", arg, path)[0] == 0


@pytest.mark.slow
def test_a_missing_image_does_not_stop_a_check(
    context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "FROM scratch AS Base\nFROM 127.0.0.1:1/none:1\nENV k v\nCOPY $FROM_BASE /\nCMD x\n"
    status, out, err = run(capsys, "build", "--check", write(context, text))
    assert status == 1
    rules = [line.split()[1] for line in out.splitlines() if line.startswith("WARNING")]
    # $FROM_BASE may well come from the base; nobody knows.
    assert rules == ["StageNameCasing", "LegacyKeyValueFormat", "JSONArgsRecommended"]
    assert err.startswith("error: 127.0.0.1:1/none:1: ")
    assert "   2 | >>> FROM 127.0.0.1:1/none:1\n" in err


def test_outline(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "ARG tail=1\nFROM scratch AS base\n# level of detail\nARG level=2\n"
        "RUN --mount=type=secret,id=s,required --mount=type=ssh --mount=type=cache,target=/c x\n"
        "# bin is the program\nFROM base AS bin\n"
    ).replace("# level of", "# level tells of")
    path = write(context, text)
    shown = (
        "TARGET:      bin\nDESCRIPTION: is the program\n\n"
        "BUILD ARG   VALUE   DESCRIPTION\nlevel       2       tells of detail\n\n"
        "SECRET   REQUIRED\ns        true\n\n"
        "SSH       REQUIRED\ndefault\n\n"
        "CACHE\n/c\n\n"
    )
    assert run(capsys, "build", "--call=outline", path) == (0, shown, "")
    found: dict[str, Any] = json.loads(run(capsys, "build", "--call=outline,format=json", path)[1])
    line = {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]}
    assert found["secrets"] == [{"name": "s", "required": True, "location": line}]
    assert found["ssh"] == [{"name": "default", "location": line}]
    assert found["cache"] == [{"ID": "/c", "location": line}]
    assert [arg["name"] for arg in found["args"]] == ["level"]


def test_targets(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Never looks at a registry, and names may be variables.
    text = "# one is first\nFROM 127.0.0.1:1/x AS one\nFROM --platform=$BUILDPLATFORM $y\n"
    path = write(context, text)
    shown = "TARGET    DESCRIPTION\none       is first\n(default)\n"
    assert run(capsys, "build", "--call=targets", path) == (0, shown, "")
    found: dict[str, Any] = json.loads(run(capsys, "build", "--call=targets,format=json", path)[1])
    assert found["targets"][1] == {
        "default": True,
        "base": "$y",
        "platform": "$BUILDPLATFORM",
        "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]},
    }


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["--check"], CallOption(Question.CHECK)),
        (["--check=false"], CallOption(None)),
        (["--call=check", "--check"], CallOption(Question.CHECK)),
        (["--call=build"], CallOption(None)),
        (["--call=outline,format=text"], CallOption(Question.OUTLINE)),
        (["--call=check,ignorestatus=true,format=json"], CallOption(Question.CHECK, True, True)),
    ],
)
def test_calls(words: list[str], call: CallOption) -> None:
    parsed = parse(words, BUILD.options)
    assert parse_call(parsed.one("call"), is_check=parsed.flag("check")) == call


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--call=chek"], 'invalid call "chek": one of build, check, outline, targets'),
        (["--check", "--call=outline"], "--check is --call=check, and cannot go with"),
        (["--call=check,format=xml"], 'invalid call option "format=xml": one of'),
    ],
)
def test_calls_that_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed = parse(words, BUILD.options)
        parse_call(parsed.one("call"), is_check=parsed.flag("check"))
    assert caught.value.message.startswith(message)


# --- lint -----------------------------------------------------------------------------------------


def test_lint_shows_what_it_could_mend(context: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(context, TWO)
    status, out, err = run(capsys, "lint", path)
    assert (status, err) == (1, "")
    assert out == TWO_SHOWN + (
        "\nMended by --fix:\n\n"
        "--- Dockerfile\n+++ Dockerfile\n@@ -1,4 +1,4 @@\n"
        "-FROM scratch AS Base\n-ENV k v\n+FROM scratch AS base\n+ENV k=v\n"
        " FROM scratch\n COPY $x /\n"
    )
    assert (context / "Dockerfile").read_text() == TWO


def test_lint_fix_writes_and_shows_what_is_left(
    context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = context / "Dockerfile"
    write(context, TWO)
    file.chmod(0o640)
    link = context / "link"
    link.symlink_to("Dockerfile")
    status, out, _ = run(capsys, "lint", "--fix", str(link))
    assert (status, out.count("WARNING")) == (1, 1)
    assert file.read_text() == "FROM scratch AS base\nENV k=v\nFROM scratch\nCOPY $x /\n"
    assert (file.stat().st_mode & 0o777, link.is_symlink()) == (0o640, True)
    assert sorted(path.name for path in context.iterdir()) == ["Dockerfile", "link"]
    before = file.stat().st_mtime_ns
    run(capsys, "lint", "--fix", str(file))
    assert file.stat().st_mtime_ns == before


def test_lint_passes_a_clean_file_and_asks_no_registry(
    context: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(context, "FROM 127.0.0.1:1/none\nRUN x\n")
    monkeypatch.chdir(context)
    assert run(capsys, "lint") == (0, "Check complete, no warnings found.\n", "")
    assert run(capsys, "lint", "Dockerfile")[0] == 0
    found: dict[str, Any] = json.loads(run(capsys, "lint", "--format=json")[1])
    assert found["warnings"] == []


# --- start-up -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_check_without_images_imports_no_engine(context: Path) -> None:
    """Without a registry, an event loop and a grammar compiler it stays quick."""
    path = write(context, "FROM scratch\nARG x=1\nCOPY a${x} /\nRUN y\n")
    code = (
        "import sys; from pybuild.cli import main\n"
        f"status = main(['build', '--check', {path!r}])\n"
        "names = ('asyncio', 'aiohttp', 'uvloop', 'lark', 'networkx', 'diskcache', 'sqlite3',"
        " 'pybuild.engine.engine', 'pybuild.solver', 'pybuild.executor.workers.workers', 'ctypes')\n"
        "print(status, [name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_known_images_are_read_without_opening_the_store(tmp_path: Path) -> None:
    from pybuild.frontend.lowering.interface import ImageRequest
    from pybuild.model.platform import LINUX_AMD64
    from pybuild.model.reference import Reference

    request = ImageRequest(Reference.parse("alpine"), LINUX_AMD64)
    assert KnownImages(str(tmp_path / "none")).find(request) is None
    assert not os.path.exists(tmp_path / "none")


@pytest.mark.slow
def test_a_check_of_2000_lines_answers_at_once(context: Path) -> None:
    """A quarter of a second of processor time; the limit tells a quadratic check from that."""
    lines = ["ARG BASE=scratch", "FROM $BASE AS stage"]
    while len(lines) < 2000:
        number = len(lines)
        lines += [
            f"ARG VERSION{number}=1.{number}",
            "RUN --mount=type=cache,target=/root/.cache make target && \\",
            f'    echo "done {number}" > /log',
            f"COPY --chown=1000:1000 src/${{VERSION{number}}}/file.txt lib/ /srv/",
            f'LABEL org.example.s{number}="value {number}" other=x',
        ]
    path = write(context, "\n".join(lines))
    command = [sys.executable, "-P", "-m", "pybuild", "build", "--check", path]
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    times: list[float] = []
    for _ in range(3):
        before = _seconds_of_children()
        done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
        times.append(_seconds_of_children() - before)
        assert (done.returncode, done.stderr) == (0, b"")
    assert min(times) < 1


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
