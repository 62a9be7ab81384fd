"""Many steps, ended and cancelled at random moments, leave nothing behind.

``PYBUILD_LEAK_STEPS=1000 PYBUILD_LEAK_CANCELS=100`` makes it long.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from pybuild.executor.workers import Workers
from pybuild.executor.zygote import hierarchies
from tests.executor.sandbox_helpers import Box, make_base, run_in, skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

STEPS = int(os.environ.get("PYBUILD_LEAK_STEPS", "60"))
CANCELS = int(os.environ.get("PYBUILD_LEAK_CANCELS", "20"))
_AT_ONCE = 4
_NETWORKS = ("default", "none", "host")
_SCRIPTS = (
    "echo x > /f; cat /f",
    "sleep 99991 & sleep 0.01",
    "trap 'echo no' TERM; echo > /dev/shm/f; mkdir -p /a/b; sleep 0.02",
    "ls -l /proc/self/fd | wc -l; kill -9 $$",
)
_ENDLESS = (
    "sleep 99991; true",
    "trap '' TERM; while :; do sleep 0.01; done",
    "while :; do echo log log log; done",
    "while :; do sleep 99991 & done",
)


def _children(of: set[int]) -> set[int]:
    """Return the processes below *of*."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    found, fresh = set(of), set(of)
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found - of


def _namespaces(pids: set[int]) -> set[str]:
    found: set[str] = set()
    for pid in pids:
        for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup"):
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{name}"))
            except OSError:
                continue
    return found


def _state() -> dict[str, object]:
    """Return what must be the same before and after: by process, by kind."""
    below = _children({os.getpid()})
    cgroups_left = [
        str(path)
        for h in hierarchies.hierarchies()
        if not h.problem
        for path in Path(h.home).glob("pybuild-[0-9]*")
        if int(path.name.split("-")[1]) in below
    ]
    return {
        "processes": below,
        "descriptors": {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in (*below, os.getpid())},
        "mounts": {
            pid: Path(f"/proc/{pid}/mounts").read_text().count("\n")
            for pid in (*below, os.getpid())
        },
        "namespaces": _namespaces(below),
        "cgroups": cgroups_left,
    }


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "userns"])
def test_nothing_is_left(tmp_path: Path, rootless: bool) -> None:
    skip_unless_possible()
    base = make_base(tmp_path / "base")
    chance = random.Random(5)

    async def ended(box: Box) -> None:
        script = chance.choice(_SCRIPTS)
        spec = box.spec("/bin/sh", "-c", script, network=chance.choice(_NETWORKS))
        assert (await run_in(box.workers, spec)).status in (0, 137)

    async def cancelled(box: Box) -> None:
        script = chance.choice(_ENDLESS)
        spec = box.spec("/bin/sh", "-c", script, network=chance.choice(_NETWORKS), pids_limit=100)
        task = asyncio.create_task(box.workers.run_step(spec, lambda _s, _d: None))
        await asyncio.sleep(chance.random() * chance.choice((0.0, 0.02, 0.2)))
        if task.cancel():  # out of processes, a shell may have ended by itself
            with pytest.raises(asyncio.CancelledError):
                await task

    async def body() -> None:
        workers = Workers(rootless=rootless)
        box = Box(tmp_path / "steps", (base,), workers)
        await ended(box)
        before = _state()
        jobs = [ended] * STEPS + [cancelled] * CANCELS
        chance.shuffle(jobs)
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with at_once:
                await jobs[number](box)

        await asyncio.gather(*map(one, range(len(jobs))))
        for _ in range(100):  # cgroups may take a moment
            if _state() == before:
                break
            await asyncio.sleep(0.05)
        assert _state() == before
        assert await workers.isolation()
        await workers.close()

    others = _children({os.getpid()})
    asyncio.run(body())
    left = _children({os.getpid()}) - others
    assert not [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
