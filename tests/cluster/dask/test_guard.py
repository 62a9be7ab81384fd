"""[A7] A hostile client of Dask that the cell's certificate lets in: no code of its runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.dask.processes import LineProcess, needs_dask, running_engine

pytestmark = [pytest.mark.slow, needs_dask]

UNGUARDED = """
import asyncio, sys
from distributed import Scheduler, Worker
async def main():
    async with Scheduler(port=0, dashboard=False, dashboard_address=':0') as scheduler:
        async with Worker(scheduler.address, dashboard_address=':0', local_directory=sys.argv[1]) as worker:
            print(f'{{"scheduler":"{scheduler.address}","agent":"{worker.address}"}}', flush=True)
            await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def attack(scheduler: str, agent: str, marks: Path) -> int:
    """Attack, and return by how many ways."""
    marks.mkdir()
    command = (
        sys.executable,
        "-P",
        "-m",
        "tests.cluster.dask.attacks",
        scheduler,
        agent,
        str(marks),
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        command,
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=200,
        check=True,
    )
    return int(done.stdout)


def test_no_attack_runs_code_and_claims_go_on(tmp_path: Path) -> None:
    with running_engine() as engine:
        a = engine.agent("a", slots=4)
        agent = a.hear("ready")["ready"]
        count = attack(engine.address, agent, tmp_path / "marks")
        assert count >= 40
        assert not list((tmp_path / "marks").iterdir())
        assert a.process.poll() is None
        assert engine.scheduler.process.poll() is None
        dispatcher = engine.dispatcher()
        while dispatcher.hear("workers")["workers"] != {"a": 0}:
            pass
        dispatcher.say(id=1, claim={"run": "k", "epoch": 1, "from": "me"}, worker="a")
        while True:  # an attacker may make claims; whoever answers them knows only tickets
            said = a.hear("claim")
            a.say(id=said["id"], end=json.dumps({"state": "done"}))
            if json.loads(said["claim"]).get("run") == "k":
                break
        assert dispatcher.hear("end")["id"] == 1


def test_the_attacks_are_real(tmp_path: Path) -> None:
    """Most of them leave their marks where nothing guards; the others would in other versions of Dask."""
    plain = LineProcess(sys.executable, "-c", UNGUARDED, str(tmp_path))
    try:
        addresses = plain.hear("scheduler")
        attack(addresses["scheduler"], addresses["agent"], tmp_path / "marks")
        marks = {path.name for path in (tmp_path / "marks").iterdir()}
        assert {
            "run",
            "run_function",
            "upload_file",
            "submit-system",
            "scheduler-to-pickle",
        } <= marks
        assert len(marks) >= 20
    finally:
        plain.kill()
