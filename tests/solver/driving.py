"""A solver on a real event loop, with fakes around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from pybuild.model.events import (
    Event,
)
from pybuild.solver.drive import Solver
from tests.clocks import FakeClock
from tests.solver.fakes import MemoryRecords


def go(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine; nothing may be left running in its loop."""

    async def checked() -> None:
        await asyncio.wait_for(work(), 60)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(checked())


def ignore(event: Event) -> None: ...


def solver(store: MemoryRecords | None = None, steps: int = 0) -> Solver:
    return Solver(store or MemoryRecords(), FakeClock(), steps)
