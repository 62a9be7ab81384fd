"""Exit codes and messages of the command line, run as a person runs it."""

import gc
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.cli import main

ROOT = Path(__file__).resolve().parents[2]


def pybuild(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pybuild", *words],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_version_and_help_succeed() -> None:
    assert pybuild("--version").stdout.startswith("pybuild ")
    assert "registries, and images in them:" in pybuild("--help").stdout
    assert "pybuild image prune" in pybuild("image", "--help").stdout == pybuild("image").stdout
    assert "--build-arg" in pybuild("build", "--help").stdout
    assert "pybuild build --no-cache-filter" in pybuild("help", "caching").stdout
    assert "--filter" in pybuild("help", "image", "prune").stdout
    assert (
        'no help about "weather": a command, or one of caching' in pybuild("help", "weather").stderr
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bild", "."], 'error: unknown command "bild" (did you mean build?)'),
        (["system", "dff"], 'error: unknown command "system dff" (did you mean df?)'),
        (["build"], 'error: "pybuild build" expects PATH|URL|-, got 0 arguments'),
        (["build", "--taget=x", "."], "error: unknown flag: --taget (did you mean --target?)"),
        (["tag", "a"], 'error: "pybuild tag" expects SOURCE NAME, got 1 arguments'),
        (
            ["-H", "x", "doctor"],
            (
                'error: "pybuild doctor" is not done by build servers\n'
                "hint: leave out -H; servers do build, bake, du, explain, history, prune and report\n"
            ),
        ),
        (["verify", "--host=x", "."], 'error: "pybuild verify" is not done by build servers\n'),
        (["run", "-H", "x", "a"], 'error: docker context "x" not found\n'),
    ],
)
def test_usage_errors_exit_with_2(words: list[str], message: str) -> None:
    done = pybuild(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_a_program_that_goes_on_is_ended_by_signals_as_before_and_has_its_garbage_collected() -> (
    None
):
    def state() -> list[object]:
        return [*map(signal.getsignal, signal.valid_signals()), gc.isenabled()]

    before, frozen = state(), gc.get_freeze_count()
    assert main(["-H", "unix:///nobody", "prune", "-f"]) == 3
    assert state() == before and gc.get_freeze_count() <= frozen


def test_global_options_may_stand_before_the_command(tmp_path: Path) -> None:
    done = pybuild("--root", str(tmp_path / "store"), "images", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "store").is_dir()
    done = pybuild(f"--root={tmp_path}/other", "-D", "tag", "a")
    assert done.stderr.startswith('error: "pybuild tag" expects SOURCE NAME, got 1 argument')


def test_the_command_line_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/cli-reference"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == (ROOT / "docs/cli.md").read_text()
