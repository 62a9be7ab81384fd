"""The runs of a worker: who listens hears all, equal steps run once, and nothing runs for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from pybuild.cluster import pauses, stepruns, wire
from pybuild.cluster.claims import ClaimEnd, ClaimState, StepClaim
from pybuild.cluster.stepruns import StepRuns
from pybuild.cluster.ticket import Said, StepFault, StepFaultKind, StepOutcome, Ticket
from pybuild.model.events import BuildWarning, Emit, VertexProgress
from pybuild.net.grpc.status import RpcError
from tests.cluster.test_runner import STEP

TICKET = Ticket(run="r", op=STEP, inputs=((),), scratch=(0,))
CLAIMED = replace(TICKET, claimed=True)
MADE = StepOutcome(deltas=("made",))
FAULT = StepOutcome(fault=StepFault(kind=StepFaultKind.STEP, message="it failed"))


class HereBuild:
    """A build's share of a worker without a store."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.held: list[tuple[str, ...]] = []
        self.has_all = True

    async def holds(self, deltas: tuple[str, ...]) -> bool:
        self.held.append(deltas)
        return self.has_all


class HereWork:
    """Steps that end when a test says."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.stopped = 0
        self.end: asyncio.Future[StepOutcome] = asyncio.get_running_loop().create_future()

    async def __call__(self, build: Any, ticket: Ticket, emit: Emit) -> StepOutcome:
        self.begun.append(build)
        emit(BuildWarning(message="so"))
        try:
            return await asyncio.shield(self.end)
        except asyncio.CancelledError:
            self.stopped += 1
            raise


class Listener:
    """One build's messages about a run."""

    def __init__(self, runs: StepRuns, ticket: Ticket) -> None:
        self.build = HereBuild()
        self.said: list[Said] = []
        self.task = asyncio.create_task(self._listen(runs.listen(cast(Any, self.build), ticket)))

    async def _listen(self, messages: AsyncGenerator[bytes]) -> None:
        try:
            async for message in messages:
                self.said.append(wire.read(Said, message))
        finally:
            await messages.aclose()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    @property
    def outcome(self) -> StepOutcome | None:
        return self.said[-1].outcome


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def run(work: Callable[[StepRuns, HereWork], Awaitable[None]]) -> None:
    async def main() -> None:
        steps = HereWork()
        runs = StepRuns(2, steps)
        runs.name = "here"
        async with asyncio.timeout(60):
            await work(runs, steps)
            await runs.close()

    asyncio.run(main())


def end(epoch: int, state: ClaimState) -> ClaimEnd:
    return ClaimEnd(run="r", epoch=epoch, state=state, worker="here")


def test_without_claims_a_step_begins_when_it_is_offered() -> None:
    async def work(runs: StepRuns, steps: HereWork) -> None:
        steps.end.set_result(MADE)
        one = Listener(runs, TICKET)
        await one.task
        assert one.said == [
            Said(epoch=0),
            Said(epoch=0, begun=True),
            Said(event=BuildWarning(message="so")),
            Said(outcome=MADE),
        ]
        assert one.build.held == [("made",)]
        assert not one.build.tasks

    run(work)


def test_a_claimed_step_waits_for_its_claim_and_the_claim_for_its_end() -> None:
    async def work(runs: StepRuns, steps: HereWork) -> None:
        assert await runs.claim(StepClaim(run="r", epoch=1)) == end(1, ClaimState.REFUSED)
        one = Listener(runs, CLAIMED)
        await settle()
        assert one.said == [Said(epoch=0)]
        claims = [asyncio.create_task(runs.claim(StepClaim(run="r", epoch=n))) for n in (2, 3)]
        await settle()
        assert await runs.claim(StepClaim(run="r", epoch=1)) == end(1, ClaimState.STALE)
        assert one.said[1] == Said(epoch=2, begun=True)
        assert not any(claim.done() for claim in claims)
        steps.end.set_result(MADE)
        assert [await claim for claim in claims] == [end(n, ClaimState.ENDED) for n in (2, 3)]
        await one.task
        assert one.outcome == MADE
        assert await runs.claim(StepClaim(run="r", epoch=4)) == end(4, ClaimState.ENDED)
        assert len(steps.begun) == 1

    run(work)


def test_a_step_that_is_offered_while_it_is_stopped_runs_anew() -> None:
    """A process gets half a second to end; a build that begins meanwhile had the end of the stopped run."""

    async def main() -> None:
        is_stopping, may_end = asyncio.Event(), asyncio.Event()
        begun: list[Any] = []

        async def steps(build: Any, ticket: Ticket, emit: Emit) -> StepOutcome:
            begun.append(build)
            if len(begun) > 1:
                return MADE
            try:
                await asyncio.Event().wait()
            finally:
                is_stopping.set()
                await may_end.wait()
            raise AssertionError

        runs = StepRuns(2, steps)
        one = Listener(runs, CLAIMED)
        await settle()
        claim = asyncio.create_task(runs.claim(StepClaim(run="r", epoch=1)))
        await settle()
        leaving = asyncio.create_task(one.leave())
        await is_stopping.wait()
        other = Listener(runs, TICKET)
        await other.task
        assert other.outcome == MADE
        assert not claim.done()
        may_end.set()
        await leaving
        assert (await claim).state is ClaimState.FAILED
        assert begun == [one.build, other.build]
        assert (await runs.claim(StepClaim(run="r", epoch=2))).state is ClaimState.ENDED
        await runs.close()

    asyncio.run(main())


def test_equal_steps_run_once_and_end_with_the_last_listener() -> None:
    """[A4]"""

    async def work(runs: StepRuns, steps: HereWork) -> None:
        one, two = Listener(runs, TICKET), Listener(runs, TICKET)
        await settle()
        assert steps.begun == [one.build]
        await one.leave()
        assert steps.stopped == 0
        late = Listener(runs, CLAIMED)
        await settle()
        assert late.said == [
            Said(epoch=0, begun=True),
            Said(epoch=0, begun=True),
            Said(event=BuildWarning(message="so")),
        ]
        await two.leave()
        await late.leave()
        assert steps.stopped == 1
        again = Listener(runs, TICKET)
        await settle()
        assert len(steps.begun) == 2
        await again.leave()

    run(work)


def test_a_run_that_failed_is_forgotten() -> None:
    async def work(runs: StepRuns, steps: HereWork) -> None:
        one = Listener(runs, CLAIMED)
        await settle()
        claim = asyncio.create_task(runs.claim(StepClaim(run="r", epoch=1)))
        await settle()
        steps.end.set_result(FAULT)
        assert await claim == end(1, ClaimState.FAILED)
        await one.task
        assert one.outcome == FAULT
        assert await runs.claim(StepClaim(run="r", epoch=2)) == end(2, ClaimState.REFUSED)

    run(work)


def test_what_ended_well_is_said_again_while_it_is_there() -> None:
    async def work(runs: StepRuns, steps: HereWork) -> None:
        steps.end.set_result(MADE)
        for _ in range(2):
            one = Listener(runs, TICKET)
            await one.task
            assert one.outcome == MADE
        assert len(steps.begun) == 1
        gone = Listener(runs, TICKET)
        gone.build.has_all = False
        await gone.task
        assert gone.outcome == MADE
        assert steps.begun[1:] == [gone.build]

    run(work)


def test_who_comes_late_to_a_long_log_hears_how_far_it_is_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stepruns, "MOST_KEPT", 10)
    monkeypatch.setattr(stepruns, "MOST_KEPT_LATER", 10)

    async def work(runs: StepRuns, steps: HereWork) -> None:
        one = Listener(runs, TICKET)
        await settle()
        late = Listener(runs, CLAIMED)
        await settle()
        assert late.said == [Said(epoch=0, begun=True), Said(event=BuildWarning(message="so"))]
        steps.end.set_result(MADE)
        await asyncio.gather(one.task, late.task)
        later = Listener(runs, CLAIMED)
        await later.task
        assert later.said == [Said(epoch=0, begun=True), Said(outcome=MADE)]

    run(work)


@pytest.mark.parametrize("kind", StepFaultKind)
def test_a_fault_that_may_be_another_coordinators_is_not_this_ones(kind: StepFaultKind) -> None:
    """Its layers can be gone with it; a worker is not to be blamed for that."""

    async def work(runs: StepRuns, steps: HereWork) -> None:
        one, two = Listener(runs, TICKET), Listener(runs, TICKET)
        await settle()
        fault = StepFault(kind=kind, message="so", delta="a")
        steps.end.set_result(StepOutcome(fault=fault))
        await asyncio.wait([one.task, two.task])
        assert one.outcome == StepOutcome(fault=fault)
        if fault.is_of_machine or kind is StepFaultKind.GONE:
            with pytest.raises(RpcError, match="ran for another coordinator, and failed: so"):
                await two.task
        else:
            assert two.outcome == one.outcome

    run(work)


def test_a_step_says_that_it_waits_for_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """[issue 18] Once that is more than a moment; its seconds do not have it."""
    monkeypatch.setattr(pauses, "MOMENT_S", 0.0)

    async def work(runs: StepRuns, steps: HereWork) -> None:
        others = [Listener(runs, replace(TICKET, run=name)) for name in "ab"]
        await settle()
        one = Listener(runs, TICKET)
        while len(one.said) < 3:
            await asyncio.sleep(0)
        begins = one.said[2].event
        assert isinstance(begins, VertexProgress)
        assert one.said[2].own
        assert (begins.id, begins.unit, begins.done) == ("waiting for a slot", "", False)
        steps.end.set_result(MADE)
        await asyncio.gather(one.task, *(other.task for other in others))
        ends = one.said[3].event
        assert isinstance(ends, VertexProgress)
        assert (ends.id, ends.done) == (begins.id, True)
        assert all(len(other.said) == 4 for other in others)

    run(work)
