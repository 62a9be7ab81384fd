"""Results that are gone when somebody reads them are made again, and nothing else stops [CCH-12]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.model.errors import DeltaGone
from pybuild.model.events import BuildWarning, Emit, Event, VertexStarted
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Result, Snapshot
from pybuild.solver.drive import Solver
from pybuild.solver.messages import Run
from tests.clocks import FakeClock
from tests.solver.builders import Desk, copy, image, run
from tests.solver.fakes import FakeRunner, MemoryRecords
from tests.solver.test_any_order import Definition, PureRunner, definitions

BASE = image()


def deltas_of(desk: Desk, vertex: Vertex, job: str = "job") -> tuple[str, ...]:
    result = desk.solutions[job].of(vertex).result
    assert isinstance(result, Snapshot)
    return result.deltas


def until_ran(desk: Desk, name: str) -> None:
    """Answer one after the other until *name* is about to begin."""
    while not any(
        isinstance(one, Run) and one.vertex.meta.name == name for one in desk.open.values()
    ):
        desk.step()


def test_a_step_whose_input_is_gone_waits_until_that_is_made_again() -> None:
    first = run("first", BASE)
    second = run("second", first)
    desk = Desk()
    desk.add(second)
    until_ran(desk, "second")
    [ask] = [one for one in desk.open.values() if isinstance(one, Run)]
    assert isinstance(ask.inputs[0], Snapshot)
    desk.records.lost.add(ask.inputs[0].deltas[-1])
    desk.work()
    assert desk.ran == ["base", "first", "second", "first", "second"]
    assert desk.records.lost.isdisjoint(deltas_of(desk, second))
    assert desk.failures == {}
    assert desk.phases("first") == ["added", "started", "completed", "started", "completed"]


def test_what_does_not_read_it_runs_on() -> None:
    first, other = run("first", BASE), run("other", BASE)
    target = copy("target", run("second", first), other)
    desk = Desk()
    desk.add(target)
    until_ran(desk, "second")
    running = [ticket for ticket, one in desk.open.items() if one.vertex.meta.name == "other"]
    [ask] = [one for one in desk.open.values() if one.vertex.meta.name == "second"]
    assert isinstance(ask, Run)
    assert isinstance(ask.inputs[0], Snapshot)
    desk.records.lost.add(ask.inputs[0].deltas[-1])
    desk.step(ask.ticket)  # it begins
    desk.step(ask.ticket)  # and finds out
    assert all(ticket in desk.open for ticket in running)
    desk.work()
    assert desk.ran.count("other") == 1
    assert desk.ran.count("first") == 2


def test_a_base_that_is_gone_takes_what_lies_on_it_along() -> None:
    first = run("first", BASE)
    second = run("second", first)
    third = run("third", second)
    desk = Desk()
    desk.add(third)
    until_ran(desk, "third")
    [ask] = [one for one in desk.open.values() if isinstance(one, Run)]
    assert isinstance(ask.inputs[0], Snapshot)
    base, gone, _ = ask.inputs[0].deltas
    desk.records.lost.add(gone)
    desk.work()
    assert desk.ran == ["base", "first", "second", "third", "first", "second", "third"]
    made = deltas_of(desk, third)
    assert made[0] == base
    assert len(made) == 4
    assert gone not in made


def test_a_copy_of_what_is_made_anew_has_the_key_of_its_new_content() -> None:
    first = run("first", BASE)
    target = copy("target", BASE, first)
    desk = Desk()
    desk.add(target)
    until_ran(desk, "target")
    [ask] = [one for one in desk.open.values() if isinstance(one, Run)]
    assert isinstance(ask.inputs[1], Snapshot)
    desk.records.lost.add(ask.inputs[1].deltas[-1])
    desk.work()
    # A fake's step writes other bytes each time, so the key of the first reading is not used.
    assert ask.key not in desk.records.records
    assert desk.failures == {}


def test_a_stored_result_is_made_again_when_its_reader_misses_it() -> None:
    records = MemoryRecords()
    first = run("first", BASE)
    desk = Desk(records)
    desk.solve(first)
    gone = deltas_of(desk, first)[-1]
    desk.ran.clear()
    second = run("second", first)
    desk.add(second, job="next")
    until_ran(desk, "second")
    records.lost.add(gone)
    desk.work()
    assert desk.ran == ["second", "base", "first", "second"] or desk.ran == [
        "second",
        "first",
        "second",
    ]
    assert gone not in deltas_of(desk, second, "next")


def test_what_nothing_can_make_again_fails() -> None:
    first = run("first", BASE)
    second = run("second", first)
    desk = Desk()
    desk.add(second)
    until_ran(desk, "second")
    [ask] = [one for one in desk.open.values() if isinstance(one, Run)]
    desk.step(ask.ticket)
    assert not desk.state.can_lose(ask.ticket, "somebody else's")
    assert not desk.state.can_lose(-1, "somebody else's")


@pytest.mark.slow
@settings(max_examples=40)
@given(definitions(), st.data())
def test_losses_at_any_time_change_nothing_of_the_result(
    definition: Definition, data: st.DataObject
) -> None:
    """Whatever is lost while it goes on, and however often, the job ends, with nothing that is gone."""
    desk = Desk(runner=Numbered())

    def choose(count: int) -> int:
        return data.draw(st.integers(0, count - 1))

    desk.choose = choose
    desk.add(*definition.targets)
    left = 4
    while desk.open:
        desk.step()
        known = sorted(
            {
                delta
                for node in desk.state.nodes.values()
                if node.solved is not None and isinstance(node.solved.result, Snapshot)
                for delta in node.solved.result.deltas
            }
            - desk.records.lost
        )
        if left and known and data.draw(st.integers(0, 3)) == 0:
            left -= 1
            desk.records.lost.add(data.draw(st.sampled_from(known)))
    assert desk.failures == {}
    assert "job" in desk.solutions


class Numbered(PureRunner):
    """Makes new deltas whenever something is made again, as another machine would."""

    def make(self, vertex: Vertex, inputs: Sequence[Result]) -> Result:
        made = super().make(vertex, inputs)
        if not isinstance(made, Snapshot) or not made.deltas:
            return made
        self._count += 1
        return Snapshot((*made.deltas[:-1], f"{made.deltas[-1]}-{self._count}"))


class Forgetful(FakeRunner):
    """Loses the result of the step ``first`` once, when ``second`` reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.losses = 1

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        if vertex.meta.name == "second" and self.losses:
            self.losses -= 1
            self.ran.append("second")
            assert isinstance(inputs[0], Snapshot)
            raise DeltaGone(inputs[0].deltas[-1], "the worker has gone")
        return await super().run(vertex, inputs, emit)


def test_the_solver_says_that_a_step_runs_again_and_why() -> None:
    async def main() -> None:
        first = run("first", BASE)
        second = run("second", first)
        runner, events = Forgetful(), list[Event]()
        records = MemoryRecords()
        solver = Solver(records, FakeClock())
        solution = await solver.solve([second], runner, events.append)
        result = solution.of(second).result
        assert isinstance(result, Snapshot)
        assert records.lost.isdisjoint(result.deltas)
        assert len(records.lost) == 1
        assert runner.ran == ["base", "first", "second", "first", "second"]
        warnings = [one.message for one in events if isinstance(one, BuildWarning)]
        assert warnings == ["a stored result is gone, its step runs: the worker has gone"]
        assert sum(isinstance(e, VertexStarted) and e.vertex == first.digest for e in events) == 2

    asyncio.run(main())


def test_what_was_not_needed_until_its_reader_lost_a_result_is_seen_to_run() -> None:
    """It was CACHED, as all that lies below a stored result is [UI-4]."""
    first = run("first", BASE)
    second = run("second", first)
    third = run("third", second)
    before = Desk()
    before.add(second)
    before.work()
    desk = Desk(before.records)
    desk.add(third)
    until_ran(desk, "third")
    [ask] = [one for one in desk.open.values() if isinstance(one, Run)]
    assert isinstance(ask.inputs[0], Snapshot)
    assert desk.phases("first") == ["added", "cached"]
    desk.records.lost |= set(ask.inputs[0].deltas[-2:])
    desk.work()
    assert desk.failures == {}
    assert desk.phases("first") == ["added", "cached", "started", "completed"]
    assert desk.phases("second") == ["added", "cached", "started", "completed"]
