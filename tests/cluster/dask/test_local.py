"""``pybuild cluster up --local``: workers of its own, a scheduler of its own, and nothing of them afterwards."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cluster.dask.processes import needs_dask
from tests.harness import Pybuild

pytestmark = [pytest.mark.slow, needs_dask]


@pytest.fixture
def place() -> Generator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pbl-"))  # sockets have short names
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("engine", ["dask", "none"])
def test_local_workers_are_there_and_end_with_it(place: Path, engine: str) -> None:
    pybuild = Pybuild(place / "store")
    said = place / "said"
    words = ("--addr", f"unix://{place}/c.sock", "--local", "2", "--engine", engine)
    with said.open("wb") as log:
        process = subprocess.Popen(
            ["timeout", "-k", "40", "200", *pybuild.command("cluster", "up", *words)],
            env=pybuild.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        began = time.monotonic()
        while "2 workers with 4 slots" not in (text := said.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() - began < 100, text
            time.sleep(0.02)
        agents = running(f"{place}/store-workers/")
        assert agents.count("cluster.dask.agent") == (2 if engine == "dask" else 0)
        assert "worker" in agents
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode == 0, said.read_text()
    assert running(str(place)) == ""


def running(words: str) -> str:
    """Return the command lines in which *words* stand."""
    command = ["ps", "-ww", "-e", "-o", "args="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return "".join(line for line in lines.splitlines(keepends=True) if words in line)
