"""``pybuild daemon --cluster FILE`` and ``pybuild build --cluster FILE``: steps run on the workers that the file names."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cluster.rig import WorkerProcess, context
from tests.executor.sandbox_helpers import skip_unless_possible
from tests.harness import Pybuild

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

DOCKERFILE = "FROM base\nRUN echo it-ran > /a\nRUN cat /a\n"


@pytest.fixture
def place() -> Generator[Path]:
    skip_unless_possible()
    directory = Path(tempfile.mkdtemp(prefix="pbk-"))  # sockets have short names
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def worker(place: Path) -> Generator[WorkerProcess]:
    started = WorkerProcess(place, "w", 2)
    started.wait_ready()
    yield started
    started.end()


def cluster_file(place: Path, text: str) -> Path:
    file = place / "cluster.toml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_one_build_has_its_steps_run_by_workers(place: Path, worker: WorkerProcess) -> None:
    path = context(place / "ctx", DOCKERFILE)
    file = cluster_file(place, f'workers = ["{worker.address}"]\n')
    here, alone = Pybuild(place / "here"), Pybuild(place / "alone")
    words = ("--progress=plain", "--build-arg", "SOURCE_DATE_EPOCH=0", "-t", "x:1", path)
    rewritten = ("--output", "type=image,rewrite-timestamp=true")
    here("build", "--cluster", file, *rewritten, *words)
    assert any((worker.root / "snapshots").iterdir())
    alone("build", *rewritten, *words)
    ids = [one("images", "-q", "--no-trunc").out for one in (here, alone)]
    assert ids[0] == ids[1] != ""
    again = here("build", "--cluster", file, *rewritten, *words)
    assert again.err.count("CACHED") >= 2


def test_a_build_whose_workers_are_all_away_says_so(place: Path) -> None:
    path = context(place / "ctx", DOCKERFILE)
    file = cluster_file(place, f'workers = ["unix://{place}/none.sock"]\n')
    done = Pybuild(place / "here")("build", "--cluster", file, path, code=None)
    assert done.code == 3
    assert f"error: no worker of {file} answers" in done.err
    assert f"unix://{place}/none.sock: " in done.err


def test_all_clients_of_a_daemon_build_on_its_cluster(place: Path, worker: WorkerProcess) -> None:
    path = context(place / "ctx", DOCKERFILE)
    file = cluster_file(place, f'workers = ["{worker.address}"]\n')
    pybuild, address = Pybuild(place / "store"), f"unix://{place}/d.sock"
    said = place / "said"
    with said.open("wb") as log:
        process = subprocess.Popen(
            ["timeout", "-k", "40", "250"]
            + pybuild.command("daemon", "--addr", address, "--cluster", file),
            env=pybuild.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        began = time.monotonic()
        while f"running server on {address}" not in (text := said.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() - began < 100, text
            time.sleep(0.02)
        assert "1 worker with 2 slots" in said.read_text()
        client = Pybuild(place / "client")
        words = ("--progress=plain", "-t", "x:1", path)
        client("build", "-H", address, *words)
        assert any((worker.root / "snapshots").iterdir())
        # A server's address is a cluster's, too.
        assert "CACHED" in client("build", "--cluster", address, *words).err
        assert "w" in pybuild("cluster", "ls").out
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode == 0, said.read_text()
