"""``pybuild cluster up --local``: workers of its own, a scheduler of its own, and nothing of them afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.dask.processes import needs_dask, running_engine
from tests.cluster.rig import WorkerProcess, context
from tests.executor.sandbox_helpers import skip_unless_possible
from tests.harness import Pybuild

pytestmark = [pytest.mark.slow, needs_dask]


@pytest.fixture
def place() -> Generator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pbl-"))  # sockets have short names
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def local_cluster(place: Path, engine: str) -> Generator[subprocess.Popen[bytes]]:
    """Start two workers and their coordinator, in a group of its own."""
    pybuild = Pybuild(place / "store")
    (place / "temporary").mkdir()
    said = place / "said"
    words = ("--addr", f"unix://{place}/c.sock", "--local", "2", "--engine", engine)
    with said.open("wb") as log:
        process = subprocess.Popen(
            ["timeout", "-k", "40", "300", *pybuild.command("cluster", "up", *words)],
            env={**pybuild.environment, "TMPDIR": str(place / "temporary")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
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
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.parametrize("engine", ["dask", "none"])
def test_local_workers_are_there_and_end_with_it(place: Path, engine: str) -> None:
    with local_cluster(place, engine) as process:
        pass
    assert process.returncode == 0, (place / "said").read_text()
    assert leavings(place, "cluster", "agent") == []
    assert running(str(place)) == ""


@pytest.mark.sandbox
@pytest.mark.parametrize("engine", ["dask", "none"])
def test_local_workers_end_with_a_coordinator_that_is_killed(place: Path, engine: str) -> None:
    """It has run a step before, so that all of its processes are there that could hold their input open.

    The keys of its certificates, and the directories of agents, are deleted by whoever uses the stores next.
    """
    skip_unless_possible()
    path = context(place / "ctx", "FROM base\nCOPY Dockerfile /\nRUN cat /Dockerfile\n")
    with local_cluster(place, engine) as process:
        Pybuild(place / "client")("-H", f"unix://{place}/c.sock", "build", path)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        while running(str(place)):
            time.sleep(0.02)
    assert os.listdir(place / "temporary") == []
    assert len(leavings(place, "cluster")) == (engine == "dask")
    for store in (place / "store", *(place / "store-workers").glob("[12]")):
        Pybuild(store)("build", path)
    assert leavings(place, "cluster", "agent") == []


def test_the_agent_of_a_worker_that_is_killed_leaves_nothing(place: Path) -> None:
    """Its directory is in the scratch of the worker's store, which the next worker sweeps."""
    with running_engine() as engine:
        before: list[Path] = []
        for end in (WorkerProcess.kill, WorkerProcess.kill, WorkerProcess.end):
            worker = WorkerProcess(place, "store", 1, "--scheduler", engine.address)
            worker.wait_ready()
            while len(now := leavings(place, "agent")) != 1 or now == before:
                time.sleep(0.01)
            end(worker)
            while running(worker.address):
                time.sleep(0.01)
            before = now
    assert leavings(place, "agent") == []


def leavings(place: Path, *labels: str) -> list[Path]:
    """Return the directories with these labels in the scratch of all stores."""
    scratch = (*place.glob("store/tmp/*"), *place.glob("store-workers/*/tmp/*"))
    return [path for path in scratch if path.name.endswith(labels)]


def running(words: str) -> str:
    """Return the command lines in which *words* stand."""
    command = ["ps", "-ww", "-e", "-o", "args="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return "".join(line for line in lines.splitlines(keepends=True) if words in line)
