"""Builds where a shell's ``ulimit`` leaves little: the limit is named, and nothing is called a bug."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness import Done, Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def limited(pybuild: Pybuild, limits: str, *words: str | Path) -> Done:
    done = subprocess.run(
        ["sh", "-c", f'ulimit {limits} && exec "$@"', "sh", *pybuild.command(*words)],
        env=pybuild.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def context(base: str, tmp_path: Path) -> Path:
    return write(tmp_path / "c", Dockerfile=f"FROM {base}\nCOPY Dockerfile /\nRUN echo a > /b\n")


@pytest.mark.parametrize("number", [8, 16, 63])
@pytest.mark.parametrize("command", ["build", "images"])
def test_few_open_files_are_refused_at_once(
    pybuild: Pybuild, context: Path, number: int, command: str
) -> None:
    words = ["build", context] if command == "build" else ["images"]
    done = limited(pybuild, f"-n {number}", *words)
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        f"error: at most {number} files may be open: 64 are the least that it takes\n"
        "hint: raise the limit on open files (ulimit -n 1024)\n"
    )


def test_a_soft_limit_is_raised(pybuild: Pybuild, context: Path) -> None:
    assert limited(pybuild, "-S -n 16", "build", context).code == 0


@pytest.mark.parametrize("kib", [100_000, 150_000, 200_000])
def test_little_memory_is_no_bug_and_no_damage(pybuild: Pybuild, context: Path, kib: int) -> None:
    done = limited(pybuild, f"-v {kib}", "build", "--no-cache", context)
    assert done.code in (0, 3), done.err
    assert "bug in pybuild" not in done.err
    assert "damaged" not in done.err
    if done.code:
        assert "hint: raise the limit" in done.err
