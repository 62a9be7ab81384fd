"""The solver on a real event loop: failures, cancellation, faults of stores and listeners."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence

import pytest

from pybuild.model.contents import ContentDigest
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, InternalError, StepError, UserError
from pybuild.model.events import (
    BuildWarning,
    Emit,
    Event,
    LogStream,
    VertexAdded,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexStarted,
)
from pybuild.model.named import NamedInputs
from pybuild.model.ops import Copy, FileOp, Vertex
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Result
from pybuild.model.span import Span
from pybuild.solver import messages
from pybuild.solver.budgets import Budgets
from pybuild.solver.drive import Solver
from pybuild.solver.queue import Queue, Weights
from pybuild.solver.runner import Record
from pybuild.solver.solution import Solution
from tests.clocks import FakeClock
from tests.solver.builders import copy, image, local, merge, run, vertex
from tests.solver.driving import go, ignore, solver
from tests.solver.fakes import FakeRunner, MemoryRecords


class Gate:
    """Holds runs by name until they are let go."""

    def __init__(self, *held: str) -> None:
        self.held = {name: asyncio.Event() for name in held}
        self.reached = {name: asyncio.Event() for name in held}

    async def __call__(self, vertex: Vertex) -> None:
        name = vertex.meta.name
        if name in self.held:
            self.reached[name].set()
            await self.held[name].wait()


def test_a_failure_stops_the_others_and_is_raised_with_its_lines() -> None:
    async def work() -> None:
        gate = Gate("slow")

        class Failing(FakeRunner):
            async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
                if vertex.meta.name == "bad":
                    await gate.reached["slow"].wait()
                    raise StepError("process did not complete: exit code: 3", status=3)
                return await super().run(vertex, inputs, emit)

        bad = run("bad", image())
        bad = Vertex(bad.op, bad.inputs, bad.meta.__class__(name="bad", spans=(Span("D", 7, 7),)))
        runner = Failing(pause=gate)
        seen: list[Event] = []
        with pytest.raises(StepError, match="exit code: 3") as caught:
            await solver().solve([merge("m", bad, run("slow", image()))], runner, seen.append)
        assert caught.value.spans == (Span("D", 7, 7),)
        assert runner.cancelled == ["slow"]
        failed = [(e.error, e.cancelled) for e in seen if isinstance(e, VertexFailed)]
        assert failed == [("process did not complete: exit code: 3", False), ("cancelled", True)]

    go(work)


def test_an_unexpected_error_of_a_runner_is_our_bug_and_a_disk_error_is_not() -> None:
    async def work() -> None:
        with pytest.raises(InternalError, match="bad: bad failed"):
            await solver().solve([run("bad", image())], FakeRunner(fail=["bad"]), ignore)

        async def pause(vertex: Vertex) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(EnvironmentFault, match="No space left"):
            await solver().solve([run("a", image())], FakeRunner(pause=pause), ignore)

    go(work)


def test_a_runner_that_cancels_itself_does_not_hang_the_build() -> None:
    async def work() -> None:
        async def pause(vertex: Vertex) -> None:
            raise asyncio.CancelledError

        with pytest.raises(InternalError, match="cancelled itself"):
            await solver().solve([image()], FakeRunner(pause=pause), ignore)

    go(work)


def test_cancelling_reaches_the_runner_and_is_raised() -> None:
    async def work() -> None:
        gate = Gate("a")
        runner = FakeRunner(pause=gate)
        task = asyncio.create_task(solver().solve([run("a", image())], runner, ignore))
        await gate.reached["a"].wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert runner.cancelled == ["a"]

    go(work)


def test_a_second_interrupt_does_not_leave_a_runner_behind() -> None:
    async def work() -> None:
        reached, stopped = asyncio.Event(), asyncio.Event()

        async def pause(vertex: Vertex) -> None:
            try:
                reached.set()
                await asyncio.Event().wait()
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                stopped.set()

        solving = solver().solve([image()], FakeRunner(pause=pause), ignore)
        task = asyncio.create_task(solving)
        await reached.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stopped.is_set()

    go(work)


def test_jobs_share_a_step_and_cancelling_its_owner_keeps_it() -> None:
    """[KEY-14] The owner's call ends only when the step does, as the step uses its runner."""

    async def work() -> None:
        gate = Gate("shared")
        shared = run("shared", image())
        both = solver()
        one, two = FakeRunner(pause=gate), FakeRunner(pause=gate)
        owner = asyncio.create_task(both.solve([run("x", shared)], one, ignore))
        await gate.reached["shared"].wait()
        other = asyncio.create_task(both.solve([run("y", shared)], two, ignore))
        await asyncio.sleep(0)
        owner.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not owner.done()
        gate.held["shared"].set()
        with pytest.raises(asyncio.CancelledError):
            await owner
        await other
        assert one.ran == ["base", "shared"]
        assert one.cancelled == []
        assert two.ran == ["y"]

    go(work)


def test_logs_reach_every_job_that_watches_under_its_own_vertex() -> None:
    async def work() -> None:
        gate = Gate("make")

        class Talking(FakeRunner):
            async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
                result = await super().run(vertex, inputs, emit)
                if vertex.meta.name == "make":
                    log = VertexLog(
                        vertex=vertex.digest, time=0, stream=LogStream.STDOUT, data=b"hello"
                    )
                    emit(log)
                return result

        def definition(context: str) -> Vertex:
            return run("make", copy("sources", image(), local(context), "/src"))

        files = {"/src": "1"}
        both = solver()
        heard: dict[str, list[Event]] = {"one": [], "two": []}
        jobs = [
            asyncio.create_task(
                both.solve([definition(name)], Talking(files=files, pause=gate), heard[name].append)
            )
            for name in heard
        ]
        await gate.reached["make"].wait()
        while not all(
            any(
                isinstance(e, VertexStarted) and e.vertex == definition(name).digest
                for e in heard[name]
            )
            for name in heard
        ):
            await asyncio.sleep(0)
        gate.held["make"].set()
        await asyncio.gather(*jobs)
        for name, events in heard.items():
            logs = [e for e in events if isinstance(e, VertexLog)]
            assert [(e.vertex, e.data) for e in logs] == [(definition(name).digest, b"hello")]

    go(work)


def test_what_is_said_of_other_vertices_while_one_runs_is_theirs() -> None:
    async def work() -> None:
        pulled = Digest.of(b"a layer")

        class Pulling(FakeRunner):
            async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
                emit(VertexAdded(vertex=pulled, name="pull"))
                return await super().run(vertex, inputs, emit)

        step = run("make", image())
        heard: list[Event] = []
        await solver().solve([step], Pulling(), heard.append)
        added = [e for e in heard if isinstance(e, VertexAdded)]
        assert {e.name for e in added if e.vertex == pulled} == {"pull"}
        assert {e.name for e in added if e.vertex == step.digest} == {"make"}

    go(work)


class FaultyRecords(MemoryRecords):
    def load(self, key: Digest) -> Record | None:
        raise OSError("database disk image is malformed")

    def save(self, record: Record, named_inputs: NamedInputs | None = None) -> None:
        raise OSError("disk full")

    def seconds(self, vertex: Digest) -> float | None:
        raise OSError("database disk image is malformed")


def test_faults_of_the_store_are_warnings() -> None:
    async def work() -> None:
        seen: list[Event] = []
        top = merge("m", *(run(f"s{n}", image()) for n in range(4)))
        await Solver(FaultyRecords(), FakeClock(), 1).solve([top], FakeRunner(), seen.append)
        warnings = {e.message for e in seen if isinstance(e, BuildWarning)}
        assert "cannot store a result: disk full" in warnings
        assert any("it runs again: database disk image" in text for text in warnings)

    go(work)


def test_a_step_for_which_something_ran_out_fails_with_the_way_out() -> None:
    async def work() -> None:
        async def runs_out(vertex: Vertex) -> None:
            raise MemoryError

        heard: list[Event] = []
        with pytest.raises(EnvironmentFault) as caught:
            await solver().solve([run("a", image())], FakeRunner(pause=runs_out), heard.append)
        assert caught.value.message == "out of memory"
        assert "ulimit -v" in caught.value.hints[0]
        assert "out of memory" in {e.error for e in heard if isinstance(e, VertexFailed)}

    go(work)


def test_a_listener_that_fails_fails_its_own_build_only() -> None:
    async def work() -> None:
        def broken(event: Event) -> None:
            if isinstance(event, VertexCompleted):
                raise BrokenPipeError("pipe")

        both = solver()
        a = run("a", image())
        results = await asyncio.gather(
            both.solve([a], FakeRunner(), broken),
            both.solve([a], FakeRunner(), ignore),
            return_exceptions=True,
        )
        assert isinstance(results[0], BrokenPipeError)
        assert not isinstance(results[1], BaseException)

    go(work)


def test_everything_is_stored_when_solve_returns() -> None:
    async def work() -> None:
        store = MemoryRecords()
        await solver(store).solve([run("b", run("a", image()))], FakeRunner(), ignore)
        assert len(store.records) == 3
        assert len(store.durations) == 3

    go(work)


def test_budgets_of_the_machine_let_sleepers_overlap() -> None:
    assert Budgets.of_machine().steps >= 16
    assert Budgets.of_machine(3).steps == 3


def test_a_fleet_has_as_many_steps_as_slots_and_this_machine_its_files() -> None:
    budgets = Budgets(steps=16, files=4, sources=8, digests=2)
    assert budgets.of_fleet(0) == {"steps": 16, "files": 4}
    assert budgets.of_fleet(3) == {"steps": 3, "files": 4}
    assert budgets.of_fleet(40) == {"steps": 40, "files": 40}


@pytest.mark.parametrize("seed", range(40))
def test_cancellation_at_any_moment_leaves_nothing_and_the_next_build_works(seed: int) -> None:
    chance = random.Random(seed)

    async def work() -> None:
        async def pause(vertex: Vertex) -> None:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

        store, files = MemoryRecords(), {"/src": "1"}
        stages = [run(f"s{n}", copy(f"c{n}", image(), local(), "/src")) for n in range(4)]
        top = image("final")
        for n, stage in enumerate(stages):
            top = copy(f"top{n}", top, stage)
        both = solver(store, steps=2)
        runners = [FakeRunner(files=files, pause=pause) for _ in range(3)]
        tasks = [
            asyncio.create_task(both.solve([top, *stages], runner, ignore)) for runner in runners
        ]
        for task in chance.sample(tasks, 2):
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(not isinstance(d, BaseException) for d in done) >= 1
        for runner in runners:
            assert len(runner.ran) == len(runner.ended) + len(runner.cancelled)
        last = FakeRunner(files=files)
        await both.solve([top, *stages], last, ignore)
        assert set(last.ran) <= {"local"}

    go(work)


def test_a_digest_that_fails_is_the_failure_of_the_copy() -> None:
    """[CP-4]"""

    async def work() -> None:
        class Missing(FakeRunner):
            async def content_digest(self, result: Result, selection: Selection) -> ContentDigest:
                raise EnvironmentFault(f'"{selection.path}": not found')

        seen: list[Event] = []
        top = copy("copy", image(), local(), "/missing")
        with pytest.raises(EnvironmentFault, match='"/missing": not found'):
            await solver().solve([top], Missing(), seen.append)
        assert [e.vertex for e in seen if isinstance(e, VertexFailed) and not e.cancelled] == [
            top.digest
        ]

    go(work)


def test_a_broken_definition_is_refused_and_harms_nobody() -> None:
    async def work() -> None:
        op = FileOp(actions=(Copy(input=4, source="/", dest="/"),))
        both = solver()
        gate = Gate("a")
        good = asyncio.create_task(both.solve([run("a", image())], FakeRunner(pause=gate), ignore))
        await gate.reached["a"].wait()
        with pytest.raises(UserError, match='invalid definition: vertex "bad" refers to input 4'):
            await both.solve([vertex("bad", op, image())], FakeRunner(), ignore)
        gate.held["a"].set()
        assert not (await good).targets[0].cached

    go(work)


def test_a_bug_in_the_state_ends_every_job_instead_of_hanging() -> None:
    async def work() -> None:
        gate = Gate("a")
        both = solver()
        runner = FakeRunner(pause=gate)
        solving = asyncio.create_task(both.solve([run("a", image())], runner, ignore))
        await gate.reached["a"].wait()

        def broken(event: messages.Event) -> Iterator[None]:
            raise InternalError("invariant")

        both._state.pieces = broken  # type: ignore[method-assign]  # pyright: ignore
        gate.held["a"].set()
        with pytest.raises(InternalError, match="invariant"):
            await solving
        again = FakeRunner()
        await both.solve([run("a", image())], again, ignore)
        assert again.ended == ["a"]

    go(work)


def test_a_result_that_is_being_stored_is_found() -> None:
    async def work() -> None:
        class Slow(MemoryRecords):
            def save(self, record: Record, named_inputs: NamedInputs | None = None) -> None:
                time.sleep(0.02)  # a slow disk, not a wait for something
                super().save(record, named_inputs)

        both = solver(Slow())
        second: list[asyncio.Task[Solution]] = []
        late = FakeRunner()
        top = run("a", image())

        def listen(event: Event) -> None:
            if isinstance(event, VertexCompleted) and event.vertex == top.digest:
                second.append(asyncio.create_task(both.solve([top], late, ignore)))

        await both.solve([top], FakeRunner(), listen)
        assert (await second[0]).targets[0].cached
        assert late.ran == []

    go(work)


@pytest.mark.parametrize("is_ordered", [True, False])
def test_only_who_takes_long_waits_for_the_order(is_ordered: bool) -> None:
    async def work() -> None:
        asked: list[str] = []

        def compute() -> dict[Digest, float]:
            asked.append("networkx")
            return {Digest.of(b"b"): 9.0, Digest.of(b"a"): 1.0}

        queue, weights = Queue(1, is_ordered=is_ordered), Weights(compute)
        entered: list[str] = []

        async def visit(name: str) -> None:
            async with queue.place(Digest.of(name.encode()), weights):
                entered.append(name)

        await asyncio.gather(visit("a"), visit("b"))
        assert (entered, len(asked)) == ((["b", "a"], 1) if is_ordered else (["a", "b"], 0))

    go(work)


def test_a_place_given_to_someone_who_left_is_given_on() -> None:
    async def work() -> None:
        queue, weights = Queue(1, is_ordered=True), Weights(dict[Digest, float])
        entered: list[str] = []

        async def visit(name: str) -> None:
            async with queue.place(Digest.of(name.encode()), weights):
                entered.append(name)

        first = queue.place(Digest.of(b"first"), weights)
        await first.__aenter__()
        second, third = asyncio.create_task(visit("second")), asyncio.create_task(visit("third"))
        while weights.known is None:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await first.__aexit__(None, None, None)
        queue.serve()
        second.cancel()  # in the very moment in which its turn has come
        await asyncio.wait([second])
        await third
        assert entered == ["third"]

    go(work)
