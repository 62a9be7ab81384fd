"""The queues: how many have a place, and whose turn it is."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.model.digest import Digest
from pybuild.solver.queue import Queue, Weights


def test_a_queue_has_as_many_places_as_there_are_now() -> None:
    async def work() -> None:
        queue, weights = Queue(2), Weights(dict[Digest, float])
        leave, inside = asyncio.Event(), 0

        async def visit() -> None:
            nonlocal inside
            async with queue.place(Digest.of(b"x"), weights):
                inside += 1
                await leave.wait()
                inside -= 1

        async def settled() -> int:
            for _ in range(9):
                await asyncio.sleep(0)
            return inside

        visits = [asyncio.create_task(visit()) for _ in range(9)]
        assert await settled() == 2
        queue.resize(5)
        assert await settled() == 5
        queue.resize(1)
        assert await settled() == 5  # who is in it stays
        leave.set()
        await asyncio.gather(*visits)
        with pytest.raises(ValueError, match="0 places"):
            queue.resize(0)

    asyncio.run(work())


def test_a_wide_job_keeps_no_other_one_waiting() -> None:
    """Jobs have places in turn, whatever their weights: fairness between builds."""

    async def work() -> None:
        seconds = {Digest.of(name.encode()): 99.0 for name in "abcdef"}
        wide, small = Weights(lambda: seconds), Weights(dict[Digest, float])
        queue = Queue(2)
        entered: list[str] = []
        leave = asyncio.Event()

        async def visit(name: str, weights: Weights) -> None:
            async with queue.place(Digest.of(name.encode()), weights):
                entered.append(name)
                await leave.wait()

        for weights in (wide, small):
            weights.demand(lambda: None)
            assert weights.task is not None
            await weights.task
        visits = [asyncio.create_task(visit(name, wide)) for name in "abcdef"]
        visits += [asyncio.create_task(visit(name, small)) for name in "xy"]
        for _ in range(9):
            await asyncio.sleep(0)
        assert sorted(entered) == ["a", "x"]
        leave.set()
        await asyncio.gather(*visits)

    asyncio.run(work())
