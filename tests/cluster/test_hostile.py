"""Workers that lie, are broken, hang or are cut off: the build goes on wherever something is left to run it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.cluster import hearing, wire
from pybuild.cluster.messages import BLOB, LAYER, LayerAnswer, LayerBytesQuery
from pybuild.cluster.ticket import Said, StepFault, StepFaultKind, StepOutcome, Ticket
from pybuild.model.digest import Digest
from pybuild.model.events import BuildWarning, Event, LogStream, VertexLog, VertexProgress
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.ops import ScratchSource, Vertex, VertexMeta
from pybuild.model.snapshot import Snapshot
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.status import Code, RpcError
from tests.cluster.here import Coordinator, HereWorker, coordinating, occupy, warnings
from tests.cluster.rig import Site, WorkerProcess, build_alone, context, run_site
from tests.cluster.test_runner import STEP
from tests.executor.sandbox_helpers import skip_unless_possible

META = VertexMeta(name="RUN true")
SCRATCH = Vertex(ScratchSource())
VERTEX = Vertex(STEP, (SCRATCH,), META)
WHOLE = "0" * 32
LOG = VertexLog(vertex=VERTEX.digest, time=0.0, stream=LogStream.STDOUT, data=b"x" * 4096)
PROGRESS = VertexProgress(vertex=VERTEX.digest, id="a", current=1)


def run(root: Path, work: Callable[[Coordinator], Awaitable[None]], *workers: HereWorker) -> None:
    async def main() -> None:
        async with coordinating(root, workers) as site:
            await work(site)

    asyncio.run(main())


class Liar(HereWorker):
    """A worker with most room, which is taken first; it ends a step by sending *data* as it is."""

    def __init__(self, data: Sequence[bytes] = (), error: RpcError | None = None) -> None:
        super().__init__(slots=9)
        self.data = data
        self.error = error

    def handlers(self) -> dict[str, Handler]:
        return {**super().handlers(), "/pybuild.cluster.Steps/Run": self._lie}

    async def _lie(self, call: IncomingCall) -> None:
        self.tickets.append(wire.read(Ticket, await call.receive() or b""))
        for one in self.data:
            await call.send(one)
        if self.error is not None:
            raise self.error


def outcome(*deltas: str, **fault: object) -> bytes:
    made = StepFault(message="so", **fault) if fault else None  # type: ignore[arg-type]
    return wire.write(Said(outcome=StepOutcome(deltas=deltas, fault=made)))


LIES = {
    "no-json": (b"{", "it said what is no message: "),
    "another-class": (wire.write(STEP), "it said what is no message: "),
    "deep": (b'{"event":' * 5000, "it said what is no message: "),
    "outside": (outcome("good", "../x"), "it made what no delta is called: invalid snapshot id"),
    "layer": (outcome("good", "sha256-" + "0" * 64), "which is no new delta"),
    "chain": (outcome("good", "chain-" + "0" * 64), "which is no new delta"),
    "patch": (outcome("good", "2" * 32 + ".over." + WHOLE), "which is no new delta"),
    "foreign-run": (outcome("others"), "it made others, which is no new delta"),
    "foreign-loss": (
        outcome(kind=StepFaultKind.GONE, delta="others"),
        "it misses others, which the step does not use",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_worker_that_lies_is_set_aside_and_the_step_runs_elsewhere(
    tmp_path: Path, name: str
) -> None:
    lie, words = LIES[name]
    liar, other = Liar([lie]), HereWorker()

    async def work(site: Coordinator) -> None:
        records = site.engine.store.records
        keep_layer(records, "others", LayerFacts(layout=f"peer:{other.address}", created=1.0))
        events: list[Event] = []
        assert await site.runner.run(VERTEX, [Snapshot()], events.append) == Snapshot(("made",))
        [warning] = warnings(events)
        begin = f"worker {liar.address} failed RUN true, which runs elsewhere: "
        assert warning.startswith(begin)
        assert words in warning
        assert [one.address for one in site.cluster.fleet.workers] == [other.address]
        assert layer_facts(records, "good") is None
        facts = layer_facts(records, "others")
        assert facts is not None
        assert facts.layout == f"peer:{other.address}"
        # It gets nothing more, though it has most room.
        again = Vertex(replace(STEP, args=("again",)), (SCRATCH,), META)
        other.answers = lambda ticket: [Said(outcome=StepOutcome(deltas=("more",)))]
        await site.runner.run(again, [Snapshot()], events.append)
        assert len(liar.tickets) == 1

    run(tmp_path, work, liar, other)


@pytest.mark.parametrize(
    ("limit", "event", "words"),
    [
        ("MOST_LOG_BYTES", LOG, "it said more than 10000 bytes of log of one step"),
        ("MOST_EVENTS", PROGRESS, "it said more than 10000 events of one step"),
    ],
)
def test_an_endless_log_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, event: VertexLog, words: str
) -> None:
    monkeypatch.setattr(hearing, limit, 10_000)
    said = wire.write(Said(event=event, own=True))
    liar, other = Liar([said] * 20_000), HereWorker()

    async def work(site: Coordinator) -> None:
        events: list[Event] = []
        await site.runner.run(VERTEX, [Snapshot()], events.append)
        assert warnings(events)[0].endswith(words)
        assert len(events) <= 10_006

    run(tmp_path, work, liar, other)


def test_a_fault_of_the_machine_is_no_fault_of_the_step(tmp_path: Path) -> None:
    """Three of them, of several steps, set the worker aside."""
    full, other = Liar([outcome(kind=StepFaultKind.ENVIRONMENT)]), HereWorker()

    async def work(site: Coordinator) -> None:
        events: list[Event] = []
        for number in range(4):
            other.answers = lambda ticket, n=number: [  # type: ignore[misc]
                Said(outcome=StepOutcome(deltas=(f"made{n}",)))
            ]
            step = replace(STEP, args=(str(number),))
            vertex = Vertex(step, (SCRATCH,), VertexMeta(name=f"RUN {number}"))
            await site.runner.run(vertex, [Snapshot()], events.append)
        assert [len(full.tickets), len(other.tickets)] == [3, 4]
        assert [one.address for one in site.cluster.fleet.workers] == [other.address]
        assert [one.health.reason for one in site.cluster.fleet.connected] == ["so", ""]

    run(tmp_path, work, full, other)


def test_who_refuses_a_step_is_passed_over(tmp_path: Path) -> None:
    refusing = Liar([], RpcError(Code.PERMISSION_DENIED, "no"))
    other = HereWorker()

    async def work(site: Coordinator) -> None:
        events: list[Event] = []
        assert await site.runner.run(VERTEX, [Snapshot()], events.append) == Snapshot(("made",))
        [warning] = warnings(events)
        assert warning.endswith("it refused: permission_denied: no")

    run(tmp_path, work, refusing, other)


def test_wrong_bytes_are_taken_from_nobody(tmp_path: Path) -> None:
    data = b"a layer"
    layer = LayerAnswer(
        diff_id=Digest.of(data), media_type="application/x", digest=Digest.of(data), size=len(data)
    )

    class Lender(HereWorker):
        def __init__(self, slots: int, data: bytes) -> None:
            super().__init__(slots=slots)
            self.data = data

        def handlers(self) -> dict[str, Handler]:
            async def lend(call: IncomingCall) -> None:
                await call.receive()
                await call.send(wire.write(layer))

            async def send(call: IncomingCall) -> None:
                wire.read(LayerBytesQuery, await call.receive() or b"")
                await call.send(self.data)

            return {**super().handlers(), LAYER: lend, BLOB: send}

    liar, longer, honest = Lender(3, b"another"), Lender(2, data + b"x"), Lender(1, data)

    async def work(site: Coordinator) -> None:
        one, two, three = (
            next(w for w in site.cluster.fleet.workers if w.address == here.address)
            for here in (liar, longer, honest)
        )
        for worker, busy in ((one, 0), (two, 1), (three, 2)):
            worker.has.add("d")
            occupy(worker, busy)
        peers = site.engine.images.peers
        assert peers is not None
        diff_id, blob = await peers.make("d", "zstd", 1)
        await site.engine.images.borrow("d", blob, lambda event: None)
        assert site.engine.store.blobs.read(blob.digest) == data
        assert site.cluster.fleet.workers == [three]
        assert one.health.reason.startswith(f"it sent wrong bytes: blob {blob.digest}: got sha256:")
        assert two.health.reason.endswith(f"got more than {len(data)} bytes")
        assert diff_id == layer.diff_id

    run(tmp_path, work, liar, longer, honest)


def test_what_could_not_be_used_is_made_by_another_one(tmp_path: Path) -> None:
    """A step runs again in one build when its layer was not what its worker had said of it."""
    first, other = HereWorker(slots=9), HereWorker()

    async def work(site: Coordinator) -> None:
        await site.runner.run(VERTEX, [Snapshot()], lambda event: None)
        other.answers = lambda ticket: [Said(outcome=StepOutcome(deltas=("right",)))]
        again = await site.runner.run(VERTEX, [Snapshot()], lambda event: None)
        assert again == Snapshot(("right",))
        assert [len(first.tickets), len(other.tickets)] == [1, 1]

    run(tmp_path, work, first, other)


# --- processes ------------------------------------------------------------------------------------

STEPS = "FROM base\nRUN echo kept > /kept\nRUN echo begun && sleep 3 && cat /kept > /all\n"


def busy_worker(site: Site) -> WorkerProcess:
    [busy] = [one for one in site.cluster.fleet.workers if one.busy]
    return next(w for w in site.workers.values() if w.address == busy.address)


def session_of(worker: WorkerProcess) -> list[int]:
    """Return the processes of a worker's session."""
    out: list[int] = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getsid(int(entry)) == worker.process.pid:
                out.append(int(entry))
        except OSError:
            continue
    return out


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_worker_that_hangs_is_left_and_comes_back(tmp_path: Path) -> None:
    skip_unless_possible()
    path = context(tmp_path / "ctx", STEPS)

    async def work(site: Site) -> None:
        stopped: list[WorkerProcess] = []

        def emit(event: Event) -> None:
            if isinstance(event, VertexLog) and b"begun" in event.data and not stopped:
                stopped.append(busy_worker(site))
                for pid in session_of(stopped[0]):
                    os.kill(pid, signal.SIGSTOP)

        try:
            made = await site.build(path, emit)
        finally:
            for pid in session_of(stopped[0]):
                os.kill(pid, signal.SIGCONT)
        alone = await build_alone(tmp_path / "alone", path)
        assert made.image == alone.image
        assert site.log.count("begun") == 2
        texts = [event.message for event in site.events if isinstance(event, BuildWarning)]
        assert any(stopped[0].address in text and "lost" in text for text in texts)
        fleet = site.cluster.fleet
        while len(fleet.connected) < 2:
            await asyncio.sleep(0.05)
        reasons = {worker.address: worker.health.reason for worker in fleet.connected}
        assert reasons[stopped[0].address] == "it was silent for 6 s"

    run_site(tmp_path / "store", {"a": 2, "b": 2}, work)


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_full_disk_is_passed_over(tmp_path: Path) -> None:
    """The program that finds no room fails with a status like any other; so the room is looked at."""
    skip_unless_possible()
    if os.geteuid():
        pytest.skip("a small disk is mounted, which takes root")
    path = context(
        tmp_path / "ctx",
        "FROM base\nRUN busybox dd if=/dev/zero of=/big bs=1M count=64 && ls -l /big\n",
    )

    async def work(site: Site) -> None:
        made = await site.build(path)
        alone = await build_alone(tmp_path / "alone", path)
        assert made.image == alone.image
        texts = [event.message for event in site.events if isinstance(event, BuildWarning)]
        assert any("MiB left on the worker's disk" in text or "space" in text for text in texts)

    small = (
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount -t tmpfs -o size=48m,mode=700 tmpfs "$0" && exec "$@"',
    )
    run_site(tmp_path / "store", {"small": 9, "b": 1}, work, before={"small": small})


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_partition_costs_the_steps_behind_it_and_heals(tmp_path: Path) -> None:
    """The connection goes through a relay, which for a time carries nothing and closes nothing."""
    skip_unless_possible()
    path = context(tmp_path / "ctx", STEPS)

    async def work(site: Site) -> None:
        relay = site.relays["a"]
        cut: list[bool] = []

        def emit(event: Event) -> None:
            if isinstance(event, VertexLog) and b"begun" in event.data and not cut:
                cut.append(True)
                relay.flows.clear()

        made = await site.build(path, emit)
        relay.flows.set()
        alone = await build_alone(tmp_path / "alone", path)
        assert cut
        assert made.image == alone.image
        assert site.log.count("begun") == 2
        fleet = site.cluster.fleet
        while len(fleet.connected) < 1:
            await asyncio.sleep(0.05)
        [worker] = fleet.connected
        assert worker.busy == 0
        worker.health.until = 0.0
        site.events.clear()
        (path / "Dockerfile").write_text((path / "Dockerfile").read_text() + "RUN echo after\n")
        await site.build(path)
        assert "after" in site.log
        assert not any(isinstance(event, BuildWarning) for event in site.events)

    run_site(tmp_path / "store", {"a": 2}, work, relayed=("a",))
