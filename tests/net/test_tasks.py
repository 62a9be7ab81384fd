"""Many awaitables at once, and blocking work that is never left alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from pybuild.net.tasks import finish_in, gather


async def after(turns: int, value: int) -> int:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


def test_results_come_in_the_order_of_the_work() -> None:
    assert asyncio.run(gather([after(3, 1), after(0, 2), after(1, 3)])) == [1, 2, 3]
    nothing: list[Coroutine[Any, Any, int]] = []
    assert asyncio.run(gather(nothing)) == []


def test_the_first_failure_is_raised_by_itself_when_the_rest_has_ended() -> None:
    ended: list[str] = []

    async def lasting() -> int:
        try:
            return await after(10**9, 1)
        finally:
            await after(2, 0)
            ended.append("lasting")

    async def failing() -> int:
        await after(2, 0)
        raise ExceptionGroup("all", [ExceptionGroup("some", [KeyError("x")]), ValueError()])

    with pytest.raises(KeyError, match="x"):
        asyncio.run(gather([lasting(), failing()]))
    assert ended == ["lasting"]


def test_blocking_work_is_done_elsewhere() -> None:
    async def work() -> None:
        here = threading.get_ident()
        assert await finish_in(None, threading.get_ident) != here
        with pytest.raises(ZeroDivisionError):
            await finish_in(None, lambda: 1 // 0)

    asyncio.run(work())


@pytest.mark.parametrize("fails", [False, True])
def test_a_cancelled_caller_waits_for_the_end_of_its_work(fails: bool) -> None:
    async def work() -> None:
        begun, goes_on, done = threading.Event(), threading.Event(), list[bool]()

        def block() -> None:
            begun.set()
            assert goes_on.wait(60)
            done.append(True)
            if fails:
                raise KeyError

        task = asyncio.create_task(finish_in(None, block))
        await asyncio.to_thread(begun.wait, 60)
        for _ in range(2):  # however often it is cancelled
            task.cancel()
            await asyncio.wait((task,), timeout=0.01)
            assert not task.done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [True]

    asyncio.run(work())
