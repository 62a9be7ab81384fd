"""The coordinator's runner with claims before workers that answer from here: where a step of a key runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.cluster import wire
from pybuild.cluster.claims import ClaimEnd, ClaimState, run_key
from pybuild.cluster.ticket import FORMAT, Said, StepOutcome, Ticket
from pybuild.model.digest import Digest
from pybuild.model.events import Event
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.ops import ScratchSource, Vertex, VertexMeta
from pybuild.model.snapshot import Snapshot
from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.status import Code, RpcError
from pybuild.solver.runner import RUN_KEY
from tests.cluster.here import Coordinator, HereWorker, coordinating, warnings
from tests.cluster.test_runner import STEP

VERTEX = Vertex(STEP, (Vertex(ScratchSource()),), VertexMeta(name="RUN true"))
KEY = Digest.of(b"key")


class Waiting(HereWorker):
    """A worker whose claimed steps wait for ever; others end as those of `HereWorker`."""

    async def _run(self, call: IncomingCall) -> None:
        ticket = wire.read(Ticket, await call.receive() or b"")
        self.tickets.append(ticket)
        if ticket.claimed:
            await call.send(wire.write(Said(epoch=0)))
            await asyncio.Event().wait()
        for answer in self.answers(ticket):
            if isinstance(answer, RpcError):
                raise answer
            await call.send(wire.write(answer))


class EndedAt:
    """A scheduler in whose books each run has ended at one worker."""

    def __init__(self, address: str, agents: Collection[str]) -> None:
        self.address = address
        self.agents = agents
        self.ready = asyncio.Event()
        self.ready.set()

    def knows(self, worker: str) -> bool:
        return worker in self.agents

    def claim(self, run: str, epoch: int, worker: str) -> Any:
        end = ClaimEnd(run=run, epoch=epoch, state=ClaimState.ENDED, worker=self.address)
        claim: Any = type("Claim", (), {})()
        claim.end = asyncio.get_running_loop().create_future()
        claim.end.set_result(end)
        return claim

    def release(self, claim: Any) -> None:
        del claim

    async def close(self) -> None:
        pass


def run(
    root: Path,
    work: Callable[[Coordinator, list[Event]], Awaitable[None]],
    *workers: HereWorker,
    at: Callable[[], str],
) -> None:
    async def main() -> None:
        async with coordinating(root, workers) as site:
            dispatch: Any = EndedAt(at(), [worker.address for worker in workers])
            site.cluster.dispatch = dispatch
            RUN_KEY.set(KEY)
            await work(site, [])

    asyncio.run(main())


def test_a_step_that_another_coordinator_has_run_is_taken_from_there(tmp_path: Path) -> None:
    chosen, other = Waiting(slots=3), Waiting()

    async def work(site: Coordinator, events: list[Event]) -> None:
        made = await site.runner.run(VERTEX, [Snapshot()], events.append)
        assert made == Snapshot(("made",))
        assert [ticket.claimed for ticket in chosen.tickets] == [True]
        assert [ticket.claimed for ticket in other.tickets] == [False]
        names = {ticket.run for ticket in chosen.tickets + other.tickets}
        assert names == {run_key(KEY, FORMAT)}
        assert warnings(events) == []

    run(tmp_path, work, chosen, other, at=lambda: other.address)


def test_who_has_the_run_may_be_out_of_reach(tmp_path: Path) -> None:
    worker = Waiting()

    async def work(site: Coordinator, events: list[Event]) -> None:
        await site.runner.run(VERTEX, [Snapshot()], events.append)
        assert [ticket.claimed for ticket in worker.tickets] == [True, False]
        assert warnings(events) == []

    run(tmp_path, work, worker, at=lambda: "unix:///nowhere")


def test_who_failed_the_step_is_not_asked_again_for_another_coordinators_run(
    tmp_path: Path,
) -> None:
    chosen, failed = Waiting(slots=3), Waiting()
    failed.answers = lambda ticket: [RpcError(Code.INTERNAL, "so")]

    async def work(site: Coordinator, events: list[Event]) -> None:
        await site.runner.run(VERTEX, [Snapshot()], events.append)
        assert [ticket.claimed for ticket in chosen.tickets] == [True, True, False]
        assert [ticket.claimed for ticket in failed.tickets] == [False]
        assert len(warnings(events)) == 1

    run(tmp_path, work, chosen, failed, at=lambda: failed.address)


def test_a_worker_without_an_agent_gets_no_claims(tmp_path: Path) -> None:
    worker = Waiting()

    async def work(site: Coordinator, events: list[Event]) -> None:
        dispatch: Any = site.cluster.dispatch
        dispatch.agents = ()
        await site.runner.run(VERTEX, [Snapshot()], events.append)
        assert [ticket.claimed for ticket in worker.tickets] == [False]

    run(tmp_path, work, worker, at=lambda: worker.address)


def test_a_step_that_counts_for_itself_is_no_other_ones_run(tmp_path: Path) -> None:
    worker = Waiting()
    own = Vertex(STEP, VERTEX.inputs, VertexMeta(name="RUN true", ignore_cache=True))
    other = Vertex(replace(STEP, args=("other",)), VERTEX.inputs, VERTEX.meta)

    async def work(site: Coordinator, events: list[Event]) -> None:
        dispatch: Any = site.cluster.dispatch
        dispatch.agents = ()
        for key in (KEY, None):
            RUN_KEY.set(key)
            await site.runner.run(own if key else other, [Snapshot()], events.append)
        names = {ticket.run for ticket in worker.tickets}
        assert len(names) == 2
        assert run_key(KEY, FORMAT) not in names

    run(tmp_path, work, worker, at=lambda: worker.address)


def test_layers_under_another_coordinators_step_stay_as_they_are_known(tmp_path: Path) -> None:
    worker = Waiting()
    worker.answers = lambda ticket: [Said(outcome=StepOutcome(deltas=("theirs", "made")))]
    known = LayerFacts(layout="peer:unix:///first", created=1.0)

    async def work(site: Coordinator, events: list[Event]) -> None:
        records = site.engine.store.records
        keep_layer(records, "theirs", known)
        made = await site.runner.run(VERTEX, [Snapshot()], events.append)
        assert made == Snapshot(("theirs", "made"))
        assert layer_facts(records, "theirs") == known
        facts = layer_facts(records, "made")
        assert facts is not None
        assert facts.layout == f"peer:{worker.address}"
        assert warnings(events) == []

    run(tmp_path, work, worker, at=lambda: worker.address)
