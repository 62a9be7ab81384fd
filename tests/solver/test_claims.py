"""Solvers of several processes on one store: what one makes, the others wait for [KEY-14]."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pybuild.model.events import Event, VertexCached, VertexProgress, VertexStarted
from pybuild.model.ops import Vertex
from pybuild.solver.telling import WAITING
from tests.solver.builders import image, run
from tests.solver.driving import go, ignore, solver
from tests.solver.fakes import FakeRunner, MemoryRecords


class Gate:
    """A pause of the step "slow", which lasts until the gate opens."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, vertex: Vertex) -> None:
        if vertex.meta.name == "slow":
            self.begun.set()
            await self.opened.wait()


def _waits(seen: list[Event], *, over: bool = False) -> bool:
    return any(isinstance(e, VertexProgress) and e.id == WAITING and e.done is over for e in seen)


def _steps(names: list[str]) -> list[str]:
    """Return the names of steps alone: an image is read by everybody, at no cost."""
    return [name for name in names if name != "base"]


async def _until_waiting(seen: list[Event]) -> None:
    while not _waits(seen):
        await asyncio.sleep(0)


def test_two_solvers_make_a_result_once() -> None:
    async def work() -> None:
        store, gate, seen = MemoryRecords(), Gate(), list[Event]()
        top = run("last", run("slow", image()))
        one, two = FakeRunner(pause=gate), FakeRunner()
        first = asyncio.create_task(solver(store).solve([top], one, ignore))
        await gate.begun.wait()
        second = asyncio.create_task(solver(store).solve([top], two, seen.append))
        await _until_waiting(seen)
        gate.opened.set()
        made, other = await first, await second
        assert sorted(_steps(one.ran) + _steps(two.ran)) == ["last", "slow"]
        assert made.targets[0].result == other.targets[0].result
        assert _waits(seen, over=True)
        slow = [type(e) for e in seen if getattr(e, "vertex", "") == top.inputs[0].digest][1:]
        assert slow == [VertexStarted, VertexProgress, VertexProgress, VertexCached]
        assert not store.claimed

    go(work)


def test_what_follows_a_waiting_step_in_its_own_solver_gets_the_result() -> None:
    """A twin of another name leads nothing while it waits: all of its key are solved."""

    async def work() -> None:
        store, gate, seen = MemoryRecords(), Gate(), list[Event]()
        slow = run("slow", image())
        twin = Vertex(slow.op, slow.inputs, replace(slow.meta, name="twin"))
        first = asyncio.create_task(solver(store).solve([slow], FakeRunner(pause=gate), ignore))
        await gate.begun.wait()
        both, own = solver(store), FakeRunner()
        waiting = [asyncio.create_task(both.solve([one], own, seen.append)) for one in (slow, twin)]
        await _until_waiting(seen)
        gate.opened.set()
        made = (await first).targets[0].result
        assert [(await other).targets[0].result for other in waiting] == [made, made]
        assert "slow" not in own.ran
        assert "twin" not in own.ran

    go(work)


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
def test_what_another_one_did_not_make_is_made_here(end: str) -> None:
    async def work() -> None:
        store, gate, seen = MemoryRecords(), Gate(), list[Event]()
        slow = run("slow", image())
        one, two = FakeRunner(pause=gate, fail=["slow"]), FakeRunner()
        first = asyncio.create_task(solver(store).solve([slow], one, ignore))
        await gate.begun.wait()
        second = asyncio.create_task(solver(store).solve([slow], two, seen.append))
        await _until_waiting(seen)
        if end == "fails":
            gate.opened.set()
        else:
            first.cancel()
        await second
        await asyncio.wait([first])
        assert first.cancelled() or first.exception() is not None
        assert _steps(two.ended) == ["slow"]
        assert not store.claimed

    go(work)


def test_who_waits_can_be_cancelled() -> None:
    async def work() -> None:
        store, gate, seen = MemoryRecords(), Gate(), list[Event]()
        slow = run("slow", image())
        one = FakeRunner(pause=gate)
        first = asyncio.create_task(solver(store).solve([slow], one, ignore))
        await gate.begun.wait()
        second = asyncio.create_task(solver(store).solve([slow], FakeRunner(), seen.append))
        await _until_waiting(seen)
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        gate.opened.set()
        await first
        assert one.cancelled == []

    go(work)


def test_a_step_whose_stored_result_is_ignored_waits_for_nobody() -> None:
    async def work() -> None:
        store, gate = MemoryRecords(), Gate()
        slow = run("slow", image())
        fresh = Vertex(slow.op, slow.inputs, replace(slow.meta, ignore_cache=True))
        first = asyncio.create_task(solver(store).solve([slow], FakeRunner(pause=gate), ignore))
        await gate.begun.wait()
        own = FakeRunner()
        await solver(store).solve([fresh], own, ignore)
        assert _steps(own.ended) == ["slow"]
        gate.opened.set()
        await first

    go(work)


def test_what_was_made_between_look_up_and_turn_is_taken() -> None:
    """It was claimed, made and let go by another one while this one waited for a place."""

    async def work() -> None:
        store, gate = MemoryRecords(), Gate()
        slow, step = run("slow", image()), run("step", image())
        narrow, own = solver(store, 1), FakeRunner(pause=gate)
        first = asyncio.create_task(narrow.solve([slow], own, ignore))
        await gate.begun.wait()
        second = asyncio.create_task(narrow.solve([step], own, ignore))
        await asyncio.sleep(0.05)  # it was looked up, and waits for the place
        await solver(store).solve([step], FakeRunner(), ignore)
        gate.opened.set()
        await first
        await second
        assert "step" not in own.ran

    go(work)
