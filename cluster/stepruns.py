"""The runs of a worker as they happen: each has listeners, who hear all of it from its start."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable

from pybuild.cluster import wire
from pybuild.cluster.claims import ClaimEnd, ClaimState, StepClaim
from pybuild.cluster.pauses import SLOT, paused
from pybuild.cluster.runs import ClaimVerdict, StepRunState, StepRunTable
from pybuild.cluster.ticket import Said, StepFaultKind, StepOutcome, Ticket
from pybuild.cluster.workerbuild import WorkerBuild
from pybuild.model.events import BuildWarning, Emit, Event
from pybuild.net.grpc.status import Code, RpcError

MOST_KEPT = 16 << 20
"""Bytes of events of a run that are kept for who listens later; the oldest go first."""
MOST_KEPT_LATER = 1 << 18
"""The same, of a run that has ended."""

Work = Callable[[WorkerBuild, Ticket, Emit], Awaitable[StepOutcome]]


class StepRun:
    """One run, and what is said of it.

    Attributes:
        offers: those of the builds that listen; the first one runs it.
        owner: the build that runs it.
    """

    def __init__(self) -> None:
        self.offers: list[tuple[WorkerBuild, Ticket]] = []
        self.owner: WorkerBuild | None = None
        self.task: asyncio.Task[None] | None = None
        self.outcome: StepOutcome | None = None
        self.over = asyncio.Event()
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._gone = 0
        self._news = asyncio.Event()

    def say(self, said: Said) -> None:
        """Let all who listen know, now or later."""
        data = wire.write(said)
        self._kept.append(data)
        self._size += len(data)
        self._keep(MOST_KEPT)

    def finish(self, outcome: StepOutcome | None) -> None:
        """End it; None: it was stopped."""
        if self.over.is_set():
            return
        self.over.set()
        self.outcome = outcome
        if outcome is not None:
            self.say(Said(outcome=outcome))
        self._keep(MOST_KEPT_LATER)

    def _keep(self, most: int) -> None:
        while self._size > most and len(self._kept) > 1:
            self._size -= len(self._kept.popleft())
            self._gone += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def messages(self) -> AsyncGenerator[bytes]:
        """Return all messages from the start to the outcome."""
        number = 0
        while True:
            number = max(number, self._gone)
            if number < self._gone + len(self._kept):
                yield self._kept[number - self._gone]
                number += 1
            elif self.over.is_set():
                return
            else:
                await self._news.wait()


class StepRuns:
    """All runs of a worker.

    Args:
        slots: the number of steps at once.
        work: runs a step.

    Attributes:
        name: the worker's, as claims have it.
    """

    def __init__(self, slots: int, work: Work) -> None:
        self.name = ""
        self._places = asyncio.Semaphore(slots)
        self._work = work
        self._table = StepRunTable()
        self._runs: dict[str, StepRun] = {}

    async def listen(self, build: WorkerBuild, ticket: Ticket) -> AsyncGenerator[bytes]:
        """Offer a step, and return what is said of it until its outcome. It is stopped when nobody listens.

        The first message is the run's highest epoch and whether it has begun, as is one when it begins.
        What its outcome names is leased for *build*, whichever build ran it.

        Raises:
            RpcError: it failed as another build's, for what may be that one's alone: its coordinator's layers, say.
        """
        key = ticket.run
        for old in self._table.expire(time.monotonic()):
            del self._runs[old]
        known = self._runs.get(key)
        ended = None if known is None else known.outcome
        is_gone = ended is not None and not await build.holds(ended.deltas)
        if is_gone and self._runs.get(key) is known:
            self._table.forget(key)
            del self._runs[key]
        row = self._table.join(key)
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = StepRun()
        offer = build, ticket
        run.offers.append(offer)
        is_held = False
        try:
            has_begun = row.state is not StepRunState.OFFERED
            yield wire.write(Said(epoch=row.epoch, begun=has_begun))
            is_known = self._table.get(key) is row  # it may have failed while that was sent
            if is_known and not ticket.claimed and self._table.begin(key):
                self._begin(key, run)
            async for message in run.messages():
                if run.outcome is not None and not is_held:
                    is_held = True
                    if run.owner is not build:
                        _refuse_faults_of_others(run.outcome)
                    await build.holds(run.outcome.deltas)
                yield message
        finally:
            run.offers.remove(offer)
            is_left = self._table.get(key) is row and self._table.leave(key)
            if self._table.get(key) is not row and self._runs.get(key) is run:
                del self._runs[key]  # who offers the step while it is stopped has it run anew
            if is_left and run.task is not None:
                run.task.cancel()
                await asyncio.wait([run.task])
            if self._runs.get(key) is not run:
                run.finish(None)

    async def claim(self, claim: StepClaim) -> ClaimEnd:
        """Answer a claim when its run has ended, or at once where there is nothing to wait for."""
        run = self._runs.get(claim.run)
        state = ClaimState.ENDED
        match self._table.claim(claim.run, claim.epoch):
            case ClaimVerdict.REFUSED:
                state = ClaimState.REFUSED
            case ClaimVerdict.STALE:
                state = ClaimState.STALE
            case verdict:
                assert run is not None
                if verdict is ClaimVerdict.BEGIN:
                    self._begin(claim.run, run)
                await run.over.wait()
                if run.outcome is None or run.outcome.fault is not None:
                    state = ClaimState.FAILED
        return ClaimEnd(run=claim.run, epoch=claim.epoch, state=state, worker=self.name)

    async def close(self) -> None:
        """Stop what runs."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, key: str, run: StepRun) -> None:
        row = self._table.get(key)
        assert row is not None
        run.say(Said(epoch=row.epoch, begun=True))
        build, ticket = run.offers[0]
        run.owner = build
        run.task = asyncio.create_task(self._run(key, run, build, ticket))
        build.tasks.add(run.task)
        run.task.add_done_callback(build.tasks.discard)

    async def _run(self, key: str, run: StepRun, build: WorkerBuild, ticket: Ticket) -> None:
        own = ticket.vertex().digest

        def emit(event: Event) -> None:
            is_own = not isinstance(event, BuildWarning) and event.vertex == own
            run.say(Said(event=event, own=is_own))

        outcome: StepOutcome | None = None
        try:
            with paused(own, SLOT, emit):
                await self._places.acquire()
            try:
                outcome = await self._work(build, ticket, emit)
            finally:
                self._places.release()
        finally:
            is_well = outcome is not None and outcome.fault is None
            if self._runs.get(key) is run:
                self._table.end(key, well=is_well, now=time.monotonic())
                if not is_well:
                    del self._runs[key]
            run.finish(outcome)


def _refuse_faults_of_others(outcome: StepOutcome) -> None:
    fault = outcome.fault
    if fault is not None and (fault.is_of_machine or fault.kind is StepFaultKind.GONE):
        text = f"the step ran for another coordinator, and failed: {fault.message}"
        raise RpcError(Code.UNAVAILABLE, text)
