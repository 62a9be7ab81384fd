"""The coordinator's runner before workers that answer from here: tickets, outcomes, losses, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.records.layers import layer_facts
from pybuild.cluster import wire
from pybuild.cluster.messages import (
    LAYER,
    SECRET,
    DigestAnswer,
    DigestQuery,
    LayerQuery,
    SecretQuery,
)
from pybuild.cluster.runner import can_leave
from pybuild.cluster.ticket import (
    DeltaPlaces,
    Said,
    StepFault,
    StepFaultKind,
    StepOutcome,
    Ticket,
)
from pybuild.model.contents import ContentDigest
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, StepError, UserError
from pybuild.model.events import (
    PULLING,
    RUN_TIMES,
    BuildWarning,
    Event,
    LogStream,
    RunTimes,
    VertexLog,
    VertexProgress,
)
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.ops import (
    Device,
    ExecOp,
    FileOp,
    HostMount,
    Mkfile,
    Mount,
    MountType,
    NetworkMode,
    PassOp,
    ScratchSource,
    SecurityMode,
    StepSettings,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.resources import Resources
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Snapshot
from pybuild.model.span import Span
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import Code, RpcError
from tests.cluster.here import Coordinator, HereWorker, coordinating, occupy, warnings

ROOT = Mount(target="/", input=0, output=True)
STEP = ExecOp(args=("true",), env=(), cwd="/", mounts=(ROOT,), platform=LINUX_AMD64)
SPANS = (Span("Dockerfile", 3, 3),)
META = VertexMeta(name="[2/2] RUN true", stage="base", ignore_cache=True, spans=SPANS)
SCRATCH = Vertex(ScratchSource())
OTHER = Vertex(PassOp(id="other"))
WHOLE = "0" * 32
PATCH = "1" * 32 + ".over." + WHOLE
FAULT = StepFault(kind=StepFaultKind.STEP, message="it failed", status=3, log_tail=("so",))


def run(
    root: Path,
    work: Callable[[Coordinator], Awaitable[None]],
    *workers: HereWorker,
    secrets: dict[str, Callable[[], bytes]] | None = None,
) -> None:
    async def main() -> None:
        async with coordinating(root, workers, secrets) as site:
            await work(site)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "kept"), [(0.5, 0.5), (0.0, None), (-1.0, None), (1e9, None), (float("nan"), None)]
)
def test_the_seconds_of_a_step_are_those_of_its_worker(
    tmp_path: Path, said: float, kept: float | None
) -> None:
    worker = HereWorker()
    outcome = StepOutcome(deltas=("new",), seconds=said)
    worker.answers = lambda ticket: [
        Said(
            event=VertexProgress(vertex=ticket.vertex().digest, id=PULLING, current=0, unit=""),
            own=True,
        ),
        Said(outcome=outcome),
    ]

    async def work(site: Coordinator) -> None:
        times = RunTimes(lambda: 0.0)
        RUN_TIMES.set(times)
        [known] = site.cluster.fleet.workers
        seen: list[str] = []

        def look(event: Event) -> None:
            if isinstance(event, VertexProgress) and event.id == PULLING:
                seen.extend(slot.pause for slot in known.running)

        await site.runner.run(Vertex(STEP, (SCRATCH,), META), [Snapshot()], look)
        assert times.ran_s == kept
        assert seen == [PULLING]

    run(tmp_path, work, worker)


@pytest.mark.parametrize(
    ("op", "leaves"),
    [
        (STEP, True),
        (replace(STEP, mounts=(ROOT, Mount(target="/s", type=MountType.SECRET, id="k"))), True),
        (replace(STEP, mounts=(ROOT, Mount(target="/s", type=MountType.SSH))), False),
        (replace(STEP, mounts=(ROOT, Mount(target="/a", input=0, shared_output=True))), False),
        (replace(STEP, host_mounts=(HostMount(source="/a", target="/a"),)), False),
        (replace(STEP, devices=(Device(name="a"),)), False),
        (replace(STEP, proxied=True), False),
        (replace(STEP, settings=StepSettings(resources=Resources(parent="/a"))), False),
        (replace(STEP, settings=StepSettings(network=NetworkMode.HOST)), False),
        (replace(STEP, settings=StepSettings(network=NetworkMode.NONE)), True),
        (replace(STEP, security=SecurityMode.INSECURE), False),
        (FileOp(actions=(Mkfile(path="/a", data=b""),)), True),
        (PassOp(id="x"), False),
        (ScratchSource(), False),
    ],
)
def test_a_step_that_needs_this_machine_stays_here(op: Any, leaves: bool) -> None:
    assert can_leave(Vertex(op, (SCRATCH,)), [Snapshot()]) is leaves


def test_files_of_a_client_are_copied_here() -> None:
    copy = Vertex(FileOp(actions=(Mkfile(path="/a", data=b""),)), (SCRATCH, OTHER))
    assert can_leave(copy, [Snapshot(), Snapshot(("a",))])
    assert not can_leave(copy, [Snapshot(), LocalTree("/x", ())])


def test_a_step_is_a_ticket_and_its_outcome_a_tree(tmp_path: Path) -> None:
    worker = HereWorker()
    vertex = Vertex(STEP, (OTHER, SCRATCH), META)
    there = Digest.of(b"as the worker knows it")

    def answers(ticket: Ticket) -> list[Said]:
        log = VertexLog(vertex=there, time=1.0, stream=LogStream.STDOUT, data=b"hi\n")
        return [
            Said(event=log, own=True),
            Said(event=log),
            Said(event=BuildWarning(message="careful"), own=True),
            Said(outcome=StepOutcome(deltas=("base", "1" * 32, "new"), created=1.5)),
        ]

    worker.answers = answers

    async def work(site: Coordinator) -> None:
        [known] = site.cluster.fleet.workers
        known.has.add("base")
        events: list[Event] = []
        result = await site.runner.run(
            vertex, [Snapshot(("base", PATCH, "base")), Snapshot()], events.append
        )
        assert result == Snapshot(("base", PATCH, "new"))
        [ticket] = worker.tickets
        assert ticket == Ticket(
            run=ticket.run,
            op=STEP,
            inputs=(("base", "1" * 32, "base"), ()),
            scratch=(1,),
            deltas=(
                DeltaPlaces(name="base", places=(worker.address,)),
                DeltaPlaces(name="1" * 32),
            ),
            name="[2/2] RUN true",
            stage="base",
            ignore_cache=True,
        )
        assert len(ticket.run) == 64
        # What is said of another vertex is said of one that the build has not.
        apart = Digest.of(ticket.run.encode() + str(there).encode())
        assert [getattr(event, "vertex", None) for event in events] == [
            vertex.digest,
            vertex.digest,
            apart,
            None,
            vertex.digest,
        ]
        assert known.has == {"base", PATCH, "new"}
        assert known.busy == 0
        facts = layer_facts(site.engine.store.records, "new")
        assert facts == LayerFacts(
            layout=f"peer:{worker.address}", cache=f"worker {worker.address}", created=1.5
        )
        assert layer_facts(site.engine.store.records, "base") is None
        # The seat is kept for the next step.
        worker.answers = lambda ticket: [Said(outcome=StepOutcome(deltas=("new",)))]
        other = Vertex(replace(STEP, args=("other",)), vertex.inputs, META)
        again = await site.runner.run(other, [Snapshot(("new",)), Snapshot()], events.append)
        assert again == Snapshot(("new",))
        assert len(worker.builds) == 1
        assert worker.tickets[1].deltas == (DeltaPlaces(name="new", places=(worker.address,)),)

    run(tmp_path, work, worker)
    assert worker.closed_builds == list(worker.builds)


def test_a_tickets_vertex_knows_which_inputs_are_empty() -> None:
    ticket = Ticket(
        run="r", op=STEP, inputs=(("a",), (), ()), scratch=(1,), name="n", stage="s",
        ignore_cache=True,
    )  # fmt: skip
    vertex = ticket.vertex()
    assert vertex.op == STEP
    assert [one.op for one in vertex.inputs] == [PassOp(id="0"), ScratchSource(), PassOp(id="2")]
    assert vertex.meta == VertexMeta(name="n", stage="s", ignore_cache=True)


def test_the_memory_of_the_last_run_is_learned_for_the_next(tmp_path: Path) -> None:
    one, two = HereWorker(), HereWorker()
    held: list[int] = []

    async def work(site: Coordinator) -> None:
        def answers(ticket: Ticket) -> list[Said]:
            for worker in site.cluster.fleet.workers:
                held.extend(slot.memory_bytes for slot in worker.running)
            deltas = (f"{len(held)}" * 32,)
            return [Said(outcome=StepOutcome(deltas=deltas, memory_bytes=400))]

        one.answers = two.answers = answers
        for _ in range(2):  # which the runner takes for a need: what the first made is of no use
            await site.runner.run(Vertex(STEP, (SCRATCH,), META), [Snapshot()], lambda event: None)
        assert held == [0, 500]

    run(tmp_path, work, one, two)


def test_a_fault_is_raised_with_the_steps_name_and_place(tmp_path: Path) -> None:
    worker = HereWorker()
    worker.answers = lambda ticket: [Said(outcome=StepOutcome(fault=FAULT))]

    async def work(site: Coordinator) -> None:
        with pytest.raises(StepError) as caught:
            await site.runner.run(Vertex(STEP, (SCRATCH,), META), [Snapshot()], lambda event: None)
        error = caught.value
        assert (error.step, error.status, error.log_tail) == (META.name, 3, ("so",))
        assert error.spans == SPANS
        assert error.hints == (f"it ran on worker {Path(worker.address).stem}",)
        assert [one.busy for one in site.cluster.fleet.workers] == [0]

    run(tmp_path, work, worker)


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.CANCELLED, Code.NOT_FOUND])
def test_a_step_whose_worker_is_lost_runs_on_another_one(tmp_path: Path, code: Code) -> None:
    lost, other = HereWorker(slots=3), HereWorker()  # the one with most room is taken first
    lost.answers = lambda ticket: [RpcError(code, "so")]

    async def work(site: Coordinator) -> None:
        events: list[Event] = []
        vertex = Vertex(STEP, (SCRATCH,), META)
        assert await site.runner.run(vertex, [Snapshot()], events.append) == Snapshot(("made",))
        text = (
            f"worker {lost.address} failed [2/2] RUN true, which runs elsewhere: "
            f"lost: {code.name.lower()}: so"
        )
        assert BuildWarning(message=text, at_once=True) in events
        assert len(warnings(events)) == 1
        assert [len(lost.tickets), len(other.tickets)] == [1, 1]

    run(tmp_path, work, lost, other)


def test_a_step_that_ends_without_an_outcome_was_lost(tmp_path: Path) -> None:
    mute, other = HereWorker(slots=3), HereWorker()
    mute.answers = lambda ticket: []

    async def work(site: Coordinator) -> None:
        events: list[Event] = []
        await site.runner.run(Vertex(STEP, (SCRATCH,), META), [Snapshot()], events.append)
        [warning] = warnings(events)
        assert warning.endswith("unavailable: the worker ended a step without an outcome")

    run(tmp_path, work, mute, other)


def test_a_step_that_three_workers_failed_is_not_tried_again(tmp_path: Path) -> None:
    workers = [HereWorker(slots=9 - number) for number in range(4)]
    for worker in workers:
        worker.answers = lambda ticket: [RpcError(Code.UNAVAILABLE, "so")]

    async def work(site: Coordinator) -> None:
        with pytest.raises(EnvironmentFault) as caught:
            await site.runner.run(Vertex(STEP, (SCRATCH,), META), [Snapshot()], lambda event: None)
        assert caught.value.message == "[2/2] RUN true failed on 3 workers"
        assert caught.value.hints == tuple(
            f"{worker.address}: lost: unavailable: so" for worker in workers[:2]
        )
        assert [len(worker.tickets) for worker in workers] == [1, 1, 1, 0]

    run(tmp_path, work, *workers)


def test_a_step_goes_to_a_worker_of_its_platform(tmp_path: Path) -> None:
    arm = Platform("linux", "arm64")
    worker, other = HereWorker(slots=9), HereWorker(platforms=(arm,))
    other.answers = lambda ticket: [Said(outcome=StepOutcome(deltas=("other",)))]

    async def work(site: Coordinator) -> None:
        vertex = Vertex(replace(STEP, platform=arm), (SCRATCH,), META)
        await site.runner.run(vertex, [Snapshot()], lambda event: None)
        files = Vertex(FileOp(actions=(Mkfile(path="/a", data=b""),)), (SCRATCH,), META)
        await site.runner.run(files, [Snapshot()], lambda event: None)
        assert [one.op for one in other.tickets] == [vertex.op]
        assert [one.op for one in worker.tickets] == [files.op]

    run(tmp_path, work, worker, other)


def test_a_tree_is_digested_where_it_is(tmp_path: Path) -> None:
    gone, worker = HereWorker(), HereWorker()
    content = ContentDigest(Digest.of(b""), (("/a", "100644 0:0 3 x"),))
    gone.digests = [RpcError(Code.NOT_FOUND, "this build is not open here")]
    worker.digests = [
        DigestAnswer(content=content),
        DigestAnswer(fault=StepFault(kind=StepFaultKind.MISSING, message="no /b", path="/b")),
    ]

    async def work(site: Coordinator) -> None:
        for one in site.cluster.fleet.workers:
            one.has |= {"a", PATCH}
            occupy(one, 0 if one.address == gone.address else 1)
        tree, selection = Snapshot(("a", PATCH)), Selection(path="/x")
        assert await site.runner.content_digest(tree, selection) == content
        query = DigestQuery(deltas=("a", "1" * 32), selection=selection)
        assert gone.questions == worker.questions == [wire.write(query)]
        site.cluster.fleet.workers[0].has.clear()
        with pytest.raises(UserError, match="no /b"):
            await site.runner.content_digest(tree, selection)
        assert len(gone.questions) == 1

    run(tmp_path, work, gone, worker)


def test_a_tree_that_is_here_is_asked_for_nowhere(tmp_path: Path) -> None:
    worker = HereWorker()

    async def work(site: Coordinator) -> None:
        [known] = site.cluster.fleet.workers
        known.has |= {"a", "b"}
        assert site.cluster.holders_of(["a", "b"]) == [known]
        assert site.cluster.holders_of(["c", "b"]) == []
        assert site.cluster.holders_of(["b", "c"]) == []
        assert site.cluster.holders_of([]) == []

    run(tmp_path, work, worker)


async def answer_of(channel: Channel, method: str, query: object) -> bytes | tuple[Code, str]:
    try:
        return await channel.unary(method, wire.write(query))
    except RpcError as error:
        return error.code, error.message


def test_a_worker_gets_what_its_running_steps_name(tmp_path: Path) -> None:
    """A secret only while a step that mounts it runs; layers of what tickets named, and no others."""
    worker = HereWorker()
    answers: list[Any] = []

    async def ask(ticket: Ticket, home: Channel) -> None:
        for id in ("key", "other", "missing"):
            answers.append(await answer_of(home, SECRET, SecretQuery(id=id)))
        for delta in ("base", "elsewhere"):
            query = LayerQuery(delta=delta, compression="lzma")
            answers.append(await answer_of(home, LAYER, query))

    worker.meanwhile = ask
    secrets: Sequence[Mount] = [
        Mount(target=f"/{id}", type=MountType.SECRET, id=id) for id in ("key", "missing")
    ]

    async def work(site: Coordinator) -> None:
        step = replace(STEP, mounts=(ROOT, *secrets, Mount(target="/c", id="other")))
        vertex = Vertex(step, (OTHER,), META)
        await site.runner.run(vertex, [Snapshot(("base",))], lambda event: None)
        assert answers == [
            b"s3cr3t",
            (Code.PERMISSION_DENIED, "no step that runs there has the secret other"),
            (Code.NOT_FOUND, "there is no secret missing"),
            (Code.INVALID_ARGUMENT, "no compression 'lzma'"),
            (Code.NOT_FOUND, "there is no 'elsewhere' here"),
        ]
        [home] = worker.builds.values()
        later = await answer_of(home, SECRET, SecretQuery(id="key"))
        assert later == (Code.PERMISSION_DENIED, "no step that runs there has the secret key")

    run(tmp_path, work, worker, secrets={"key": lambda: b"s3cr3t", "other": lambda: b"x"})
