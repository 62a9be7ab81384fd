"""The plugin of pytest, many builds from Python, and builds for programs that know docker-py."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pybuild as library
from pybuild.model.errors import UsageError, UserError
from pybuild.testing import dockershape
from pybuild.testing.images import CommandFailed, build_image
from tests.harness import ROOT, Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
FILE = "FROM base AS deps\nARG V=1\nRUN echo v=$V > /v\nFROM deps\nCOPY f /f\n"


def run_pytest(pybuild: Pybuild, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-v", *words],
        cwd=folder,
        # It is named here, whether it is installed or not.
        env={**pybuild.environment, "BASE": "base", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lines_of(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text().splitlines())


def test_the_example_is_tested_with_fewer_lines_and_no_daemon(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """[users-want 7] A variant of arguments is a test of its own; containers are gone afterwards."""
    example = ROOT / "examples/tested"
    shutil.copytree(example, tmp_path / "tested")
    plugin = ["-p", "pybuild.testing.plugin", "-p", "no:hypothesispytest"]
    out = run_pytest(pybuild, tmp_path / "tested", *plugin, f"--pybuild-root={pybuild.store}")
    assert "4 passed" in out
    assert "test_the_greeting_is_of_the_language[LANGUAGE=de] PASSED" in out
    assert pybuild("ps", "-aq").out == ""
    assert lines_of(example / "test_greeting.py") < lines_of(example / "with_docker.py") / 2


def test_steps_say_whether_they_were_cached_and_why_not(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=FILE, f="1")
    build_image(context, root=pybuild.store)
    (context / "f").write_text("2")
    built = build_image(context, root=pybuild.store)
    assert built["deps"].cached and built["deps"].why == "" and not built.steps.cached
    assert "content of /f differs" in built["COPY f"].why
    again = build_image(context, root=pybuild.store, build_args={"V": "2"})
    assert not again["deps"].cached and 'ARG V was "1", is "2"' in again["RUN echo"].why
    with pytest.raises(KeyError, match="no stage and no step"):
        built["nowhere"]


def test_containers_are_thrown_away(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=FILE, f="1")
    built = build_image(context, root=pybuild.store)
    assert built.read("/f") == b"1" and built.output("cat", "/v").out == "v=1\n"
    assert built.in_stage("deps", "cat", "/v").out == "v=1\n"
    assert built.in_stage("deps", "ls", "/v", step=1, code=None).code != 0
    with (
        pytest.raises(CommandFailed, match="exit code 1, not 0"),
        built.run("sleep", "60", env={"A": "b"}) as one,
    ):
        assert one.exec("sh", "-c", "cat; echo $A", stdin=b"in ").out == "in b\n"
        one.copy("/f", tmp_path / "copied")
        assert (tmp_path / "copied").read_text() == "1"
        one.exec("false")
    assert pybuild("ps", "-aq").out == ""
    with built.run("sh", "-c", "echo said; exit 3") as other:
        assert other.wait() == 3 and other.logs().out == "said\n"


def test_many_builds_run_what_they_share_once(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """[users-want 7] Also results that others read, and files that are given instead of a directory."""
    seen: list[object] = []
    made = library.build_many(
        {
            "one": {"context": {"Dockerfile": "FROM base\nRUN echo shared > /s\n"}},
            "two": {"context": {"Dockerfile": "FROM base\nRUN echo shared > /s\nRUN cat /s\n"}},
            "three": {"context": {"Dockerfile": "FROM one\nRUN cat /s > /t\n"}, "tags": ["t:1"]},
        },
        links={"three": {"one": "one"}},
        root=str(pybuild.store),
        on_event=seen.append,
    )
    assert sorted(made) == ["one", "three", "two"] and seen
    assert pybuild("run", "--rm", "t:1", "cat", "/t").out == "shared\n"
    with pytest.raises(UsageError, match="root is for all builds"):
        library.build_many({"one": {"root": "x"}})
    with pytest.raises(UserError, match="target bad: "):
        library.build_many(
            {
                "good": {"context": {"Dockerfile": "FROM base\n"}},
                "bad": {"context": {"Dockerfile": "FROM base\nRUN false\n"}},
            },
            root=str(pybuild.store),
        )


def test_a_program_for_docker_py_builds(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=FILE, f="1")
    client = dockershape.from_env(str(pybuild.store))
    image, log = client.images.build(
        path=str(context), tag="shape:1", buildargs={"V": "7"}, rm=True, dockerfile=""
    )
    assert image.tags == ["shape:1"] and image.id.startswith(image.short_id)
    assert any("aux" in entry for entry in log)
    assert pybuild("run", "--rm", image.id, "cat", "/v").out == "v=7\n"
    file = io.BytesIO(b"FROM base\nRUN echo no; exit 4\n")
    with pytest.raises(dockershape.BuildError, match="exit code: 4") as caught:
        client.images.build(fileobj=file)
    assert any(entry.get("stream") == "no\n" for entry in caught.value.build_log)
    with pytest.raises(TypeError, match="isolation cannot be done here"):
        client.images.build(path=os.fspath(context), isolation="hyperv")
