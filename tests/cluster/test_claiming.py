"""Steps by claims before a worker and a scheduler that are here: begun once, again, elsewhere, or without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pybuild.cluster import claiming, wire
from pybuild.cluster.claiming import ClaimedStep, RunsThere
from pybuild.cluster.claims import ClaimEnd, ClaimState, StepClaim
from pybuild.cluster.dispatch import ClaimLost
from pybuild.cluster.stepruns import StepRuns
from pybuild.cluster.ticket import Said, StepOutcome, Ticket
from pybuild.net.grpc.status import RpcError
from tests.cluster.test_stepruns import MADE, TICKET, HereBuild, HereWork


class HereClaim:
    """A claim that the worker here answers."""

    def __init__(self, place: str) -> None:
        self.at = place
        self.end: asyncio.Future[ClaimEnd] = asyncio.get_running_loop().create_future()

    async def place(self) -> str:
        return self.at


class HereDispatch:
    """A scheduler that hands claims to *runs*; *ends* and *place* make it say other things."""

    def __init__(self, runs: StepRuns) -> None:
        self.runs = runs
        self.ready = asyncio.Event()
        self.ready.set()
        self.place = "here"
        self.ends: list[ClaimEnd | ClaimLost] = []
        self.epochs: list[int] = []
        self.claims: list[HereClaim] = []
        self.released: list[HereClaim] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.hands_out = True

    def claim(self, run: str, epoch: int, worker: str) -> HereClaim:
        assert worker == "here"
        self.epochs.append(epoch)
        claim = HereClaim(self.place)
        self.claims.append(claim)
        if self.ends:
            end = self.ends.pop(0)
            if isinstance(end, ClaimLost):
                claim.end.set_exception(end)
            else:
                claim.end.set_result(end)
        elif self.hands_out:
            self.tasks.append(
                asyncio.create_task(self._answer(claim, StepClaim(run=run, epoch=epoch)))
            )
        return claim

    async def _answer(self, claim: HereClaim, what: StepClaim) -> None:
        claim.end.set_result(await self.runs.claim(what))

    def release(self, claim: HereClaim) -> None:
        self.released.append(claim)


class HereSeat:
    """A seat at the worker here."""

    def __init__(self, runs: StepRuns) -> None:
        self.worker = SimpleNamespace(address="here")
        self.runs = runs
        self.offers: list[Ticket] = []
        self.build: Any = HereBuild()

    @asynccontextmanager
    async def offered(self, ticket: Ticket) -> AsyncGenerator[AsyncGenerator[Said]]:
        self.offers.append(ticket)

        async def said() -> AsyncGenerator[Said]:
            messages = self.runs.listen(self.build, ticket)
            try:
                async for message in messages:
                    yield wire.read(Said, message)
            finally:
                await messages.aclose()

        generator = said()
        try:
            yield generator
        finally:
            await generator.aclose()


class Place:
    """A worker, a scheduler, and a coordinator's step."""

    def __init__(self) -> None:
        self.steps = HereWork()
        self.runs = StepRuns(2, self.steps)
        self.runs.name = "here"
        self.seat: Any = HereSeat(self.runs)
        self.dispatch: Any = HereDispatch(self.runs)
        self.heard: list[Said] = []

    async def run(self) -> StepOutcome:
        return await ClaimedStep(self.dispatch, TICKET, self.heard.append).run(self.seat)


def run(work: Callable[[Place], Awaitable[None]]) -> None:
    async def main() -> None:
        place = Place()
        async with asyncio.timeout(60):
            await work(place)
            for task in place.dispatch.tasks:
                task.cancel()
            await place.runs.close()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "LOOK_S", 0.001)
    monkeypatch.setattr(claiming, "PATIENCE_S", 0.01)


def there(state: ClaimState, worker: str) -> ClaimEnd:
    return ClaimEnd(run="r", epoch=1, state=state, worker=worker)


def test_a_step_begins_by_its_claim_which_is_given_up_at_its_end() -> None:
    async def work(place: Place) -> None:
        place.steps.end.set_result(MADE)
        assert await place.run() == MADE
        assert [offer.claimed for offer in place.seat.offers] == [True]
        assert place.dispatch.epochs == [1]
        assert place.dispatch.released == place.dispatch.claims
        assert [said.event is not None for said in place.heard].count(True) == 1

    run(work)


def test_two_steps_of_one_key_run_once() -> None:
    """[A4]"""

    async def work(place: Place) -> None:
        tasks = [asyncio.create_task(place.run()) for _ in range(2)]
        while not place.steps.begun:
            await asyncio.sleep(0)
        place.steps.end.set_result(MADE)
        assert await asyncio.gather(*tasks) == [MADE, MADE]
        assert len(place.steps.begun) == 1

    run(work)


def test_a_claim_that_is_lost_is_made_again_with_a_higher_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[A3]"""
    monkeypatch.setattr(claiming, "PATIENCE_S", 60)

    async def work(place: Place) -> None:
        place.steps.end.set_result(MADE)
        place.dispatch.ends = [ClaimLost("its agent died"), there(ClaimState.FAILED, "b")]
        assert await place.run() == MADE
        assert place.dispatch.epochs == [1, 2, 3]
        assert len(place.steps.begun) == 1

    run(work)


def test_a_step_that_runs_elsewhere_or_did_is_not_begun() -> None:
    async def work(place: Place) -> None:
        place.dispatch.ends = [there(ClaimState.ENDED, "b")]
        with pytest.raises(RunsThere) as caught:
            await place.run()
        assert caught.value.address == "b"
        place.dispatch.place, place.dispatch.hands_out = "c", False
        with pytest.raises(RunsThere) as caught:
            await place.run()
        assert caught.value.address == "c"
        assert not place.steps.begun
        assert place.dispatch.released == place.dispatch.claims

    run(work)


@pytest.mark.parametrize("lacks", ["scheduler", "agent", "luck"])
def test_a_step_whose_claim_nobody_takes_begins_without(lacks: str) -> None:
    async def work(place: Place) -> None:
        place.steps.end.set_result(MADE)
        if lacks == "scheduler":
            place.dispatch.ready.clear()
        elif lacks == "agent":
            place.dispatch.place, place.dispatch.hands_out = "", False
        else:
            place.dispatch.ends = [ClaimLost("so")] * 100
        assert await place.run() == MADE
        assert [offer.claimed for offer in place.seat.offers] == [True, False]
        assert len(place.steps.begun) == 1

    run(work)


def test_schedulers_that_come_and_go_use_up_a_steps_patience() -> None:
    """Found by workers and a scheduler that died again and again: a step waited anew for each."""

    async def work(place: Place) -> None:
        place.steps.end.set_result(MADE)
        dispatch = place.dispatch

        def claim(run: str, epoch: int, worker: str) -> HereClaim:
            dispatch.epochs.append(epoch)
            lost = HereClaim("")
            lost.end.set_exception(ClaimLost("so"))
            dispatch.claims.append(lost)
            dispatch.ready.clear()
            asyncio.get_running_loop().call_later(0.004, dispatch.ready.set)
            return lost

        dispatch.claim = claim
        assert await place.run() == MADE
        assert [offer.claimed for offer in place.seat.offers] == [True, False]
        assert len(dispatch.epochs) <= 3

    run(work)


def test_a_worker_that_does_not_say_how_far_a_step_is_has_lost_it() -> None:
    async def work(place: Place) -> None:
        @asynccontextmanager
        async def offered(ticket: Ticket) -> AsyncGenerator[AsyncGenerator[Said]]:
            async def said() -> AsyncGenerator[Said]:
                yield Said(outcome=MADE)

            generator = said()
            yield generator
            await generator.aclose()

        place.seat.offered = offered
        with pytest.raises(RpcError, match="does not say whether it has the step"):
            await place.run()
        assert not place.dispatch.claims

    run(work)
