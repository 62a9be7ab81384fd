"""`pybuild -H` from a system that is no Unix: what only Linux, or only Unix, has is taken away from Python first [ENG-42]."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.client.docker.pipes import pipe_path
from tests.daemon.buildsites import daemon, pybuild_with_base
from tests.harness import ROOT, leftovers, write

PROGRAM = Path(__file__).with_name("elsewhere.py")
slow = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


def far(url: str, *words: str, code: int = 0) -> str:
    """Return the output of a command line on such a system; the errors, where it is to fail."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "-H", url, *words],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "X": "of here"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of an engine's API by TCP, whose port the system chose."""
    here = pybuild_with_base(tmp_path_factory.mktemp("engine"))
    folder = tmp_path_factory.mktemp("s")
    address = ("--docker-address", "tcp://127.0.0.1:0", "--insecure")
    with daemon(here, folder, *address) as server:
        said = server.said()
        yield said.partition("Docker's API on ")[2].split()[0]
        assert server.stop() == 0
    assert not leftovers(here.store)


class TestFarBuilds:
    """One engine, asked by another system."""

    pytestmark = slow

    def test_containers_are_run_and_listed(self, url: str) -> None:
        assert far(url, "run", "--rm", "--network", "none", "base:1", "echo", "hi") == "hi\n"
        assert far(url, "ps", "-q") == ""

    def test_a_directory_is_built_and_brought_back(self, url: str, tmp_path: Path) -> None:
        """Files that the ignore file names stay here; the Dockerfile may lie elsewhere; -t names, -o brings."""
        text = "FROM base:1\nARG X\nRUN echo $X > /x\nCOPY . /c/\n"
        context = write(
            tmp_path / "c", **{".dockerignore": "*no\n", "a/no": "", "b no": "", "yes": "1"}
        )
        write(tmp_path, File=text)
        words = ("-f", str(tmp_path / "File"), "--build-arg", "X")
        image = far(url, "build", "-q", "-t", "far:1", *words, str(context)).strip()
        assert image.startswith("sha256:")
        run = ("run", "--rm", "--network", "none", "far:1")
        assert far(url, *run, "cat", "/x", "/c/yes") == "of here\n1"
        far(url, "build", "-o", str(tmp_path / "out"), *words, str(context))
        assert (tmp_path / "out/x").read_text() == "of here\n"
        sent = {one.name for one in (tmp_path / "out/c").iterdir()}
        assert sent == {".dockerignore", "a", "yes", ".dockerfile.of-the-build"}

    def test_progress_and_failures_are_shown(self, url: str, tmp_path: Path) -> None:
        context = write(tmp_path / "c", Dockerfile="FROM base:1\nRUN echo so; exit 3\n")
        said = far(url, "build", str(context), code=1)
        assert "Step 2/2 : RUN echo so" in said and "so\n" in said
        assert "returned a non-zero code: 3" in said
        refused = far(url, "build", "--secret", "id=x,src=y", str(context), code=2)
        assert "--secret is not done over Docker's API" in refused
        assert "does not exist" in far(url, "build", str(tmp_path / "none"), code=1)


def test_a_named_pipe_is_written_as_windows_opens_it() -> None:
    assert pipe_path("npipe:////./pipe/docker_engine") == r"\\.\pipe\docker_engine"
