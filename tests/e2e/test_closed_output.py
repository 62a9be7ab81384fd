"""An ID that cannot be written is no success."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def redirected(pybuild: Pybuild, how: str, *words: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {how}', "sh", *pybuild.command(*words)],
        env=pybuild.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("how", "reason"), [(">&-", "it is closed"), (">/dev/full", "no space left on device")]
)
def test_what_cannot_be_written_is_an_error(
    pybuild: Pybuild, tmp_path: Path, how: str, reason: str
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nLABEL a=b\n")
    said = f"error: cannot write to standard output: {reason}\n"
    for words in (["build", "-q", context], ["build", "-q", context], ["images"], ["--version"]):
        assert redirected(pybuild, how, *words) == (3, said)  # the second build is the memo's
    assert redirected(pybuild, how, "build", context)[0] == 0  # it writes nothing there
