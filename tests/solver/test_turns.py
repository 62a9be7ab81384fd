"""A large definition leaves the event loop to others, time and again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from pybuild.model.events import Event, VertexAdded, VertexFailed
from pybuild.solver.drive import Solver
from pybuild.solver.messages import Began, Failed
from pybuild.solver.messages import Event as Message
from pybuild.solver.turns import PIECES_A_TURN, Turns
from tests.clocks import FakeClock
from tests.solver.builders import image, run
from tests.solver.fakes import FakeRunner, MemoryRecords

MANY = 3 * PIECES_A_TURN


async def turns_of(counted: list[object], until: asyncio.Future[None]) -> list[int]:
    """Return how many things are new in *counted* at each turn of the loop."""
    seen = [0]
    while not until.done():
        await asyncio.sleep(0)
        seen.append(len(counted))
    return [after - before for before, after in itertools.pairwise(seen)]


def test_events_are_handled_in_order_and_in_parts() -> None:
    done: list[object] = []

    def handle(event: Message) -> Iterator[None]:
        for _ in range(MANY):
            done.append(event)
            yield

    async def work() -> None:
        until = asyncio.get_running_loop().create_future()
        turns = Turns(handle, until.set_exception)
        first, second = Began(1), Began(2)
        watch = asyncio.create_task(turns_of(done, until))
        await asyncio.sleep(0)
        turns.feed(first)
        turns.feed(second)
        while len(done) < 2 * MANY:
            await asyncio.sleep(0)
        until.set_result(None)
        assert max(await watch) <= PIECES_A_TURN
        assert done == [first] * MANY + [second] * MANY

    asyncio.run(asyncio.wait_for(work(), 60))


def test_what_few_events_bring_about_is_done_at_once() -> None:
    done: list[Message] = []
    errors: list[Exception] = []

    def handle(event: Message) -> Iterator[None]:
        yield
        if isinstance(event, Failed):
            raise ValueError
        done.append(event)

    async def work() -> None:
        turns = Turns(handle, errors.append)
        turns.feed(Began(1))
        turns.feed(Failed(2, ValueError()))
        turns.feed(Began(3))

    asyncio.run(work())
    assert done == [Began(1), Began(3)] and len(errors) == 1


def test_a_long_definition_is_taken_in_over_many_turns() -> None:
    """Also when it is cancelled meanwhile: nothing of it is left."""
    events: list[object] = []

    def emit(event: Event) -> None:
        events.append(event)

    async def work() -> None:
        top = image()
        for number in range(MANY):
            top = run(f"step {number}", top)
        solver = Solver(MemoryRecords(), FakeClock())
        until = asyncio.get_running_loop().create_future()
        watch = asyncio.create_task(turns_of(events, until))
        solving = asyncio.create_task(solver.solve([top], FakeRunner(), emit))
        while not events:
            await asyncio.sleep(0)
        solving.cancel()
        await asyncio.wait({solving})
        assert solving.cancelled()
        until.set_result(None)
        assert max(await watch) <= PIECES_A_TURN
        assert not any(isinstance(event, VertexFailed) for event in events)
        assert len([event for event in events if isinstance(event, VertexAdded)]) == MANY + 1
        state = solver._state  # pyright: ignore[reportPrivateUsage]
        assert not (state.nodes or state.jobs or state.tickets or state.by_key)

    asyncio.run(asyncio.wait_for(work(), 60))
