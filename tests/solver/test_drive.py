"""The solver on a real event loop with a fake runner: order, places and what is stored."""

from __future__ import annotations

import asyncio
import threading
import time

from pybuild.model.events import (
    RUN_TIMES,
    Event,
    VertexAdded,
    VertexCached,
    VertexCompleted,
)
from pybuild.model.named import NamedInputs
from pybuild.model.ops import Vertex
from pybuild.solver.runner import Record
from tests.clocks import FakeClock
from tests.solver.builders import copy, image, local, merge, run
from tests.solver.driving import go, ignore, solver
from tests.solver.fakes import FakeRunner, MemoryRecords


def test_a_build_runs_and_the_next_one_is_cached() -> None:
    async def work() -> None:
        store, files = MemoryRecords(), {"/src": "1"}
        top = run("make", copy("sources", image(), local(), "/src"))
        seen: list[Event] = []
        first = await solver(store).solve([top], FakeRunner(files=files), seen.append)
        assert not first.of(top).cached
        assert first.of(top).created == FakeClock().now()
        assert [e.name for e in seen if isinstance(e, VertexAdded)] == [
            "base",
            "local",
            "sources",
            "make",
        ]
        assert sum(isinstance(e, VertexCompleted) for e in seen) == 4
        seen.clear()
        runner = FakeRunner(files=files)
        second = await solver(store).solve([top], runner, seen.append)
        assert runner.ran == ["local"]
        assert second.targets == (
            first.of(top).__class__(
                result=first.of(top).result,
                key=first.of(top).key,
                created=first.of(top).created,
                cached=True,
            ),
        )
        assert sum(isinstance(e, VertexCached) for e in seen) == 3

    go(work)


def test_a_step_is_told_done_when_its_result_is_stored() -> None:
    """A reader of events relies on a finished step's result, even when the process is killed right then."""
    seen: list[Event] = []
    early: list[str] = []

    class Watched(MemoryRecords):
        def save(self, record: Record, named_inputs: NamedInputs | None = None) -> None:
            time.sleep(0.01)  # long enough for the event to overtake us
            names = {e.vertex: e.name for e in seen if isinstance(e, VertexAdded)}
            done = [names[e.vertex] for e in seen if isinstance(e, VertexCompleted)]
            early.extend(name for name in done if name == record.name)
            super().save(record, named_inputs)

    async def work() -> None:
        top = run("three", run("two", run("one", image())))
        await solver(Watched()).solve([top], FakeRunner(), seen.append)
        assert sum(isinstance(e, VertexCompleted) for e in seen) == 4
        assert not early

    go(work)


def test_the_seconds_of_a_run_are_those_of_its_own_work() -> None:
    """A runner elsewhere says so: the rest went into waiting."""

    async def say(vertex: Vertex) -> None:
        times = RUN_TIMES.get()
        assert times is not None
        if vertex.meta.name == "make":
            times.ran_s = 2.5

    async def work() -> None:
        store, top = MemoryRecords(), run("make", image())
        await solver(store).solve([top], FakeRunner(pause=say), ignore)
        assert store.durations[top.digest] == 2.5
        assert store.durations[top.inputs[0].digest] == 0.0

    go(work)


def test_the_store_gets_ready_once_while_the_first_step_runs() -> None:
    ready = threading.Event()
    calls: list[str] = []

    class Slow(MemoryRecords):
        def prepare(self) -> None:
            calls.append("prepare")
            ready.set()

        def save(self, record: Record, named_inputs: NamedInputs | None = None) -> None:
            calls.append(record.name)
            super().save(record, named_inputs)

    async def wait(vertex: Vertex) -> None:
        if vertex.meta.name == "one":
            assert await asyncio.to_thread(ready.wait, 10)

    async def work() -> None:
        await solver(Slow()).solve(
            [run("two", run("one", image()))], FakeRunner(pause=wait), ignore
        )
        assert calls.index("prepare") < calls.index("one")
        assert calls.count("prepare") == 1

    go(work)


def test_sixteen_steps_overlap() -> None:
    async def work() -> None:
        at_once = asyncio.Barrier(16)

        async def pause(vertex: Vertex) -> None:
            if vertex.meta.name.startswith("s"):
                await at_once.wait()

        stages = [run(f"s{n}", image()) for n in range(16)]
        top = image("final")
        for n, stage in enumerate(stages):
            top = copy(f"copy{n}", top, stage)
        runner = FakeRunner(pause=pause)
        await solver().solve([top], runner, ignore)
        assert len(runner.ran) == len(set(runner.ran)) == 16 + 16 + 2

    go(work)


def test_the_longest_way_starts_first_when_places_are_few() -> None:
    async def work() -> None:
        store = MemoryRecords()
        steps = [run(f"s{n}", image()) for n in range(6)]
        for n, step in enumerate(steps):
            store.durations[step.digest] = [3.0, 9.0, 1.0, 7.0, 5.0, 2.0][n]
        runner = FakeRunner()
        await solver(store, steps=1).solve([merge("m", *steps)], runner, ignore)
        assert runner.ran == ["base", "s1", "s3", "s4", "s0", "s5", "s2", "m"]

    go(work)


def test_steps_beyond_the_budget_wait() -> None:
    async def work() -> None:
        now, most = 0, 0

        async def pause(vertex: Vertex) -> None:
            nonlocal now, most
            if vertex.meta.name.startswith("s"):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1

        steps = [run(f"s{n}", image()) for n in range(20)]
        await solver(steps=3).solve([merge("m", *steps)], FakeRunner(pause=pause), ignore)
        assert most == 3

    go(work)
