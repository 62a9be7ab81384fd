"""An agent: a Dask worker beside one `pybuild worker`, whose child it is.

It says each claim on standard output and waits until its end comes on standard input. It knows no step,
opens no store and has no secret. When it loses its scheduler it ends, and is started again by its parent:
steps go on meanwhile.
"""

# Dask's own types are partial.
# pyright: basic
from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from distributed import Worker, WorkerPlugin

from pybuild.cluster.dask import claims, guard
from pybuild.cluster.dask.options import read_options, security_of
from pybuild.cluster.dask.parent import Parent
from pybuild.cluster.roles import Role


class Agent(WorkerPlugin):  # type: ignore[misc]
    """The claims of one Dask worker that wait for their ends; a plugin of it."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._claimed: dict[str, asyncio.Future[str]] = {}

    async def answer(self, text: str) -> str:
        """Hand a claim to the `pybuild worker`, and return its end."""
        number = next(self._numbers)
        key = f"run-{json.loads(text)['run']}"
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = self._claimed[key] = end
        self._parent.say(id=number, claim=text)
        try:
            return await end
        finally:
            del self._waiting[number]
            if self._claimed.get(key) is end:
                del self._claimed[key]

    def transition(self, key: str, start: str, finish: str, **more: Any) -> None:
        """Give up a claim that all have released, as Dask tells its plugins.

        Dask itself lets it go on to its end, and somebody who claims the run again has the end of the old claim.
        """
        del more
        end = self._claimed.get(key)
        is_released = (start, finish) == ("executing", "released")
        if end is not None and is_released and not end.done():
            end.set_result("")

    async def hear(self) -> None:
        """Take the ends of claims until the parent has gone."""
        while (message := await self._parent.hear()) is not None:
            end = self._waiting.get(message["id"])
            if end is not None and not end.done():
                end.set_result(message["end"])


async def serve(arguments: Sequence[str]) -> None:
    """Take claims until the parent or the scheduler has gone."""
    options = read_options("agent", arguments, "scheduler", "name", "slots", "scratch")
    parent = Parent()
    await parent.open()
    agent = Agent(parent)
    claims.answer_with(agent.answer)
    slots = int(options.slots)
    with contextlib.suppress(FileExistsError):  # our parent deletes it
        os.mkdir(options.scratch, 0o700)
    worker = Worker(
        options.scheduler,
        name=options.name,
        nthreads=slots,
        resources={"slots": slots},
        memory_limit=0,
        local_directory=options.scratch,
        dashboard=False,
        extensions={},
        dashboard_address="127.0.0.1:0",
        security=security_of(options, Role.SCHEDULER),
        death_timeout=10,
    )
    guard.limit(worker)
    worker.plugins["claims"] = agent
    async with worker:
        parent.say(ready=worker.address)
        ends = [asyncio.create_task(agent.hear()), asyncio.create_task(worker.finished())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ends[0].cancel()


if __name__ == "__main__":
    with contextlib.suppress(OSError, RuntimeError):  # nobody schedules there yet
        asyncio.run(serve(sys.argv[1:]))
