"""A step by a claim: offered to the worker that the placer chose, claimed there, or listened to where another
coordinator has the same run already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from pybuild.cluster.claims import ClaimState
from pybuild.cluster.dispatch import ClaimLost, Dispatch, MadeClaim
from pybuild.cluster.home import Seat
from pybuild.cluster.ticket import Said, StepOutcome, Ticket
from pybuild.net.grpc.status import Code, RpcError

LOOK_S = 0.05
"""A run that has not begun by then may be another coordinator's, elsewhere."""
_MOST_LOOK_S = 1.0
PATIENCE_S = 5.0
"""As long as a step waits for a claim that nobody has; then it begins without."""

Hear = Callable[[Said], None]


class RunsThere(Exception):
    """The run is at another worker, by another coordinator's claim.

    Attributes:
        address: the worker's.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class ClaimedStep:
    """One step of a build, with its claims."""

    def __init__(self, dispatch: Dispatch, ticket: Ticket, hear: Hear) -> None:
        self._dispatch = dispatch
        self._ticket = ticket
        self._hear = hear
        self._epoch = 0
        self._has_begun = asyncio.Event()
        self._claim: MadeClaim | None = None
        self._until = 0.0

    async def run(self, seat: Seat) -> StepOutcome:
        """Have the step run at the worker of *seat*, by a claim as long as there is a scheduler.

        Raises:
            RunsThere: it runs elsewhere, or did; RpcError: as `Seat.run`.
        """
        async with seat.offered(replace(self._ticket, claimed=True)) as said:
            first = await anext(said, None)
            if first is None or first.epoch is None:
                raise RpcError(Code.UNAVAILABLE, "the worker does not say whether it has the step")
            self._epoch = first.epoch
            self._note(first)
            listening = asyncio.create_task(self._listen(said))
            claiming = asyncio.create_task(self._keep_claim(seat))
            try:
                await asyncio.wait((listening, claiming), return_when=asyncio.FIRST_COMPLETED)
                if not listening.done():
                    await claiming  # which raises, or has begun the step without a claim
                return await listening
            finally:
                for task in (listening, claiming):
                    task.cancel()
                await asyncio.wait((listening, claiming))
                if self._claim is not None:
                    self._dispatch.release(self._claim)

    async def _listen(self, said: AsyncGenerator[Said]) -> StepOutcome:
        async for one in said:
            self._note(one)
            if one.outcome is not None:
                return one.outcome
            self._hear(one)
        raise RpcError(Code.UNAVAILABLE, "the worker ended a step without an outcome")

    def _note(self, said: Said) -> None:
        if said.epoch is not None:
            self._epoch = max(self._epoch, said.epoch)
        if said.epoch is None or said.begun:
            self._has_begun.set()

    async def _keep_claim(self, seat: Seat) -> None:
        """Keep a claim for as long as the step runs: again, when its agent or the scheduler has gone.

        Returns when the step was begun without one.
        """
        own = seat.worker.address
        self._be_patient()
        while True:
            if not self._dispatch.ready.is_set() and await self._is_alone(seat):
                return
            self._epoch += 1
            self._claim = claim = self._dispatch.claim(self._ticket.run, self._epoch, own)
            try:
                if not await self._settled(claim, own):
                    await self._begin_alone(seat)
                    return
                end = await claim.end
            except ClaimLost:
                await asyncio.sleep(LOOK_S)
                if self._patience <= 0 and not self._has_begun.is_set():
                    await self._begin_alone(seat)
                    return
                continue
            if self._has_begun.is_set() and end.worker == own:
                await asyncio.Event().wait()  # the outcome is on its way
            if end.state is ClaimState.ENDED:
                raise RunsThere(end.worker)
            await asyncio.sleep(LOOK_S)  # it failed elsewhere, or somebody was faster

    async def _settled(self, claim: MadeClaim, own: str) -> bool:
        """Wait until the step has begun here, or the claim has ended; False: no agent takes it.

        Raises:
            RunsThere: another worker has it.
        """
        pause = LOOK_S
        begun = asyncio.create_task(self._has_begun.wait())
        try:
            while True:
                await asyncio.wait(
                    (begun, claim.end), timeout=pause, return_when=asyncio.FIRST_COMPLETED
                )
                if self._has_begun.is_set() or claim.end.done():
                    return True
                place = await claim.place()
                if place not in ("", own):
                    raise RunsThere(place)
                if place:
                    self._be_patient()
                elif self._patience <= 0:
                    return False
                pause = min(pause * 2, _MOST_LOOK_S)
        finally:
            begun.cancel()

    def _be_patient(self) -> None:
        """Wait anew for somebody to have the claim; schedulers that come and go do not make it longer."""
        self._until = asyncio.get_running_loop().time() + PATIENCE_S

    @property
    def _patience(self) -> float:
        return self._until - asyncio.get_running_loop().time()

    async def _is_alone(self, seat: Seat) -> bool:
        """Wait for a scheduler; a step that has not begun has its patience for that, and begins then."""
        try:
            async with asyncio.timeout(None if self._has_begun.is_set() else self._patience):
                await self._dispatch.ready.wait()
        except TimeoutError:
            await self._begin_alone(seat)
            return True
        return False

    async def _begin_alone(self, seat: Seat) -> None:
        """Have the step begin without a claim: a second offer, which nobody needs to listen to."""
        async with seat.offered(self._ticket) as said:
            async for _ in said:
                if self._has_begun.is_set():
                    return
