"""Runs many steps, cancels some at random moments, and prints what is left of them, as JSON.

Run by its text, as the user of a rung: ``python -c … '{"steps": 60, …}'``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from pybuild.cache.disk.trees import remove_tree
from pybuild.executor.files import jobs
from pybuild.executor.steps.spec import StepLimits, StepSpec
from pybuild.executor.workers.job import job
from pybuild.executor.workers.workers import Workers
from pybuild.executor.zygote import hierarchies

_AT_ONCE = 4
_LASTING_S = 1.0
_SCRIPTS = (
    "echo x > /f; cat /f",
    "sleep 99991 & sleep 0.01",
    "trap 'echo no' TERM; echo > /dev/shm/f; mkdir -p /a/b; sleep 0.02",
    "ls -l / | wc -l; kill -9 $$",
)
_ENDLESS = (
    "sleep 99991; true",
    "trap '' TERM; while :; do sleep 0.01; done",
    "while :; do echo log log log; done",
    "while :; do sleep 99991 & done",
)


def _children() -> set[int]:
    """Return the processes below this one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    of = {os.getpid()}
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


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:  # a process in a user namespace is not shown to its own user
        return -1


def _state() -> dict[str, Any]:
    """Return what must be the same before and after: by process, by kind."""
    below = _children()
    cgroups = [
        str(path)
        for h in hierarchies.hierarchies()
        if not h.problem
        for path in Path(h.home).glob("pybuild-[0-9]*")
        if int(path.name.split("-")[1]) in below
    ]
    everybody = sorted((*below, os.getpid()))
    return {
        "processes": sorted(below),
        "descriptors": {str(pid): _descriptors(pid) for pid in everybody},
        "mounts": {
            str(pid): Path(f"/proc/{pid}/mounts").read_text().count("\n") for pid in everybody
        },
        "namespaces": sorted(_namespaces(below)),
        "cgroups": sorted(cgroups),
    }


class _Load:
    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.chance = random.Random(5)
        self.workers = Workers(**asked["options"])
        self.count = 0

    def spec(self, script: str, **changes: Any) -> StepSpec:
        self.count += 1
        place = Path(self.asked["place"]) / f"step{self.count}"
        for name in ("upper", "work"):
            (place / name).mkdir(parents=True)
        return StepSpec(
            lowers=(self.asked["lower"],),
            upper=str(place / "upper"),
            work=str(place / "work"),
            args=("/bin/sh", "-c", script),
            network=self.chance.choice(self.asked["networks"]),
            hosts=b"127.0.0.1 localhost\n",
            **changes,
        )

    async def remove(self, spec: StepSpec) -> None:
        """Delete what it made at once: a thousand copied roots would fill any disk."""
        await asyncio.to_thread(remove_tree, os.path.dirname(spec.upper))

    async def ended(self) -> None:
        script = self.chance.choice(_SCRIPTS)
        spec = self.spec(script)
        done = await self.workers.run_step(spec, lambda _s, _d: None)
        assert done.status in (0, 137), (script, done)
        await self.remove(spec)

    async def cancelled(self) -> None:
        spec = self.spec(self.chance.choice(_ENDLESS), limits=StepLimits(pids=100))
        task = asyncio.create_task(self.workers.run_step(spec, lambda _s, _d: None))
        await asyncio.sleep(self.chance.random() * self.chance.choice((0.0, 0.02, 0.2)))
        if task.cancel():  # out of processes, a shell may have ended by itself
            try:
                await task
            except asyncio.CancelledError:
                await self.remove(spec)
                return
            raise AssertionError("a cancelled step went on")


async def _settled() -> dict[str, Any]:
    """Return the state that has lasted: a zygote that has said it is there goes on to prepare itself."""
    state, since = _state(), time.monotonic()
    while time.monotonic() - since < _LASTING_S:
        await asyncio.sleep(0.05)
        if (later := _state()) != state:
            state, since = later, time.monotonic()
    return state


async def _main(asked: dict[str, Any]) -> dict[str, Any]:
    load = _Load(asked)
    await load.ended()
    # The other zygote was begun meanwhile; it is all there when it has answered.
    await load.workers.isolation()
    await load.workers.call(job(jobs.remove, os.path.join(asked["place"], "nothing")))
    before = await _settled()
    begun = time.monotonic()
    all_of_them = [load.ended] * asked["steps"] + [load.cancelled] * asked["cancels"]
    load.chance.shuffle(all_of_them)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with at_once:
            await all_of_them[number]()

    await asyncio.gather(*map(one, range(len(all_of_them))))
    seconds = time.monotonic() - begun
    after = _state()
    for _ in range(1200):  # cgroups may take a moment
        if after == before:
            break
        await asyncio.sleep(0.05)
        after = _state()
    works = await load.workers.isolation()
    await load.workers.close()
    left = [Path(f"/proc/{pid}/cmdline").read_text() for pid in _children()]
    return {"before": before, "after": after, "left": left, "works": works, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(json.loads(sys.argv[1])))))
