"""Steps as root in a container that may neither mount nor make namespaces (`jail`).

One process in the jail takes steps as lines of JSON and answers each with a line; see `Jail`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pybuild.executor.steps.spec import StepMount, StepSpec
from pybuild.executor.workers.job import job
from pybuild.executor.workers.workers import Workers
from pybuild.image.layer.layertar import layer_job
from pybuild.image.layer.orders import BlobOrder
from pybuild.model.errors import PybuildError
from tests.executor.sandbox_helpers import kind_of, make_base

JAIL = Path(__file__).with_name("jail.py")


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of a step; *error* and *hints* where it could not be run."""

    status: int
    out: str
    error: str
    hints: tuple[str, ...]
    upper: Path

    def delta(self) -> dict[str, str]:
        """Return what each path of the delta is: dir, file, link, whiteout, opaque."""
        found = sorted(self.upper.rglob("*"))
        return {str(path.relative_to(self.upper)): kind_of(path) for path in found}


class Jail:
    """Runs steps, each on the deltas *lowers*."""

    def __init__(self, place: Path, process: subprocess.Popen[str]) -> None:
        self.place = place
        self.lowers = [str(place / "base")]
        self._process = process
        self._count = 0

    def rung(self) -> str:
        return str(self._ask({"rung": True})["rung"])

    def sh(self, script: str, **changes: Any) -> Done:
        """Run a script; *changes* are fields of `StepSpec`, mounts as dicts, and ``cancel_after``,
        the output at which the step is cancelled."""
        self._count += 1
        here = self.place / f"step{self._count}"
        for name in ("upper", "work"):
            (here / name).mkdir(parents=True)
        spec = {
            "lowers": self.lowers,
            "upper": str(here / "upper"),
            "work": str(here / "work"),
            "args": ["/bin/sh", "-c", script],
            **changes,
        }
        answer = self._ask(spec)
        hints = tuple(answer["hints"])
        return Done(answer["status"], answer["out"], answer["error"], hints, here / "upper")

    def layer(self, done: Done) -> bytes:
        """Return the layer's archive."""
        out = done.upper.with_name("layer.tar")
        self._ask({"layer": str(done.upper), "out": str(out)})
        return out.read_bytes()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def jail(place: Path, *options: str) -> Generator[Jail]:
    """Start the process; a busybox is in ``place/base``. *options* are the jail's."""
    make_base(place / "base")
    command = [sys.executable, str(JAIL), *options, sys.executable, "-m", "tests.executor.jailed"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Jail(place, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


async def _answer(workers: Workers, asked: dict[str, Any]) -> dict[str, Any]:
    if "rung" in asked:
        return {"rung": await workers.isolation()}
    if "layer" in asked:
        order = BlobOrder(asked["out"], "uncompressed")
        blob = await workers.call(job(layer_job, asked["layer"], order, userxattr=True))
        return blob._asdict()
    said: list[bytes] = []
    status, error = -1, ""
    hints: tuple[str, ...] = ()
    stop_at = asked.pop("cancel_after", "").encode()
    stop = asyncio.Event()

    def on_output(_stream: str, data: bytes) -> None:
        said.append(data)
        if stop_at and stop_at in b"".join(said):
            stop.set()

    mounts = tuple(_mount(mount) for mount in asked.pop("mounts", ()))
    conf: dict[str, Any] = {
        "hosts": b"127.0.0.1 localhost\n",
        "resolv_conf": b"nameserver 192.0.2.1\n",
    }
    running = asyncio.create_task(
        workers.run_step(StepSpec(**asked, **conf, mounts=mounts), on_output)
    )
    if stop_at:
        await stop.wait()
        running.cancel()
    try:
        status = (await running).status
    except asyncio.CancelledError:
        error = "cancelled"
    except PybuildError as fault:
        error, hints = fault.message, tuple(fault.hints)
    text = b"".join(said).decode("utf-8", "replace")
    return {"status": status, "out": text, "error": error, "hints": hints}


def _mount(asked: dict[str, Any]) -> StepMount:
    data = base64.b64decode(asked.pop("data", ""))
    return StepMount(data=data, **asked)


async def _main() -> None:
    workers = Workers()
    loop = asyncio.get_running_loop()
    try:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await _answer(workers, json.loads(line))), flush=True)
    finally:
        await workers.close()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main())
