"""Runs steps for the contract suite, as whoever it was started: requests on stdin, answers on stdout.

Each is a pickle. Run by its text, because a plain user cannot read where it lies.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import time
from typing import Any

from pybuild.executor.steps.spec import StepSpec
from pybuild.executor.workers.job import job
from pybuild.executor.workers.workers import Workers
from pybuild.image.layer.layertar import layer_job
from pybuild.image.layer.orders import BlobOrder
from pybuild.model.errors import PybuildError


async def _step(workers: Workers, request: dict[str, Any]) -> dict[str, Any]:
    """Run a step, cancel it at its first output if that is asked for; say all that came of it.

    Of its output, the first *keep* bytes are kept and all are counted.
    """
    said = {"stdout": b"", "stderr": b""}
    keep: int = request.get("keep", 1 << 30)
    seen = 0
    before = _resident()
    at_output: float = request.get("cancel", -1.0)
    task: asyncio.Task[Any] | None = None
    cancelled = 0.0

    def on_output(stream: str, data: bytes) -> None:
        nonlocal cancelled, seen
        seen += len(data)
        said[stream] += data[: max(0, keep - len(said[stream]))]
        time.sleep(request.get("slowly", 0.0))
        if at_output >= 0 and not cancelled and task is not None:
            cancelled = time.monotonic()
            asyncio.get_running_loop().call_later(at_output, task.cancel)

    spec: StepSpec = request["spec"]
    answer: dict[str, Any] = {"said": said}
    task = asyncio.create_task(workers.run_step(spec, on_output))
    try:
        answer["ended"] = await task
    except asyncio.CancelledError:
        answer["cancelled"] = time.monotonic() - cancelled - at_output
    except PybuildError as error:
        answer["error"] = (type(error).__name__, error.message, tuple(error.hints))
    return answer | {"seen": seen, "grown": _resident() - before}


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def _layer(workers: Workers, request: dict[str, Any]) -> dict[str, Any]:
    """Make a layer of what a step left, as an image would have it."""
    order = BlobOrder(request["layer"], "uncompressed")
    userxattr = await workers.isolation() != "root"
    await workers.call(job(layer_job, request["upper"], order, userxattr=userxattr))
    return {}


async def _about(workers: Workers, request: dict[str, Any]) -> dict[str, Any]:
    return {"rung": await workers.isolation(), "descriptors": len(os.listdir("/proc/self/fd"))}


_DO = {"step": _step, "layer": _layer, "about": _about}


async def _main(workers: Workers, requests: Any, answers: Any) -> None:
    while True:
        try:
            request = await asyncio.to_thread(pickle.load, requests)
        except EOFError:
            break
        pickle.dump(await _DO[request["do"]](workers, request), answers)
        answers.flush()
    await workers.close()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print into the answers
    asyncio.run(_main(Workers(**eval(sys.argv[1])), sys.stdin.buffer, answers))
