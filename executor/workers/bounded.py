"""Jobs that write to the store end when it reaches its ceiling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pybuild.model.errors import EnvironmentFault

if TYPE_CHECKING:
    from pybuild.cache.space.budget import Budget

AT_ONCE = "the ceiling is reached"
"""The message that cancels a task whose job must write nothing more, not even to say goodbye."""


@asynccontextmanager
async def bounded(budget: Budget | None, path: str) -> AsyncGenerator[None]:
    """Watch what the block's job writes to *path*; as `asyncio.timeout`, but for bytes.

    Raises:
        EnvironmentFault: the store is at its ceiling; the block was cancelled for that.
    """
    if budget is None or not budget.covers(path):
        yield
        return
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    faults: list[EnvironmentFault] = []
    before = task.cancelling()
    inside = True

    def end(fault: EnvironmentFault) -> None:
        if inside:
            faults.append(fault)
            task.cancel(AT_ONCE)

    def too_much(fault: EnvironmentFault) -> None:
        loop.call_soon_threadsafe(end, fault)

    with budget.writing(path, too_much):
        try:
            yield
            await asyncio.to_thread(budget.settle)
        except asyncio.CancelledError:
            if faults and task.uncancel() <= before:
                raise faults[0] from None
            raise
        finally:
            inside = False
    if faults:  # it was done by itself before it heard of it
        task.uncancel()
        raise faults[0]
