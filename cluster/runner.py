"""The runner of a coordinator's build: steps go to workers, all else is done here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from pybuild.cache.content.patches import whole_of
from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.cluster.claiming import ClaimedStep, RunsThere
from pybuild.cluster.claims import run_key
from pybuild.cluster.cluster import Cluster
from pybuild.cluster.fleet import HeldSlot, Worker
from pybuild.cluster.health import Misconduct
from pybuild.cluster.hearing import Hearing
from pybuild.cluster.home import Seat
from pybuild.cluster.pauses import SLOT, paused
from pybuild.cluster.placing import Needs
from pybuild.cluster.ticket import (
    FORMAT,
    DeltaPlaces,
    StepFault,
    StepFaultKind,
    StepOutcome,
    Ticket,
)
from pybuild.executor.inputs import input_of
from pybuild.executor.runner import BuildRunner
from pybuild.executor.steps.execop import Secrets
from pybuild.executor.steps.outputs import kept_mounts
from pybuild.model.contents import ContentDigest
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.events import RUN_TIMES, BuildWarning, Emit, VertexProgress
from pybuild.model.layerfacts import LENT_PREFIX, LayerFacts
from pybuild.model.ops import (
    CacheSharing,
    ExecOp,
    FileOp,
    MountType,
    NetworkMode,
    ScratchSource,
    SecurityMode,
    Vertex,
)
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot
from pybuild.net.grpc.status import Code, RpcError
from pybuild.solver.runner import RUN_KEY

_MOST_FAILURES = 3
"""A step that so many workers failed is not tried on another one: they may be its victims."""

_MOST_SECONDS = 7 * 86400.0
"""A step that is said to have run longer has said nothing."""


class ClusterRunner(BuildRunner):
    """Runs the vertices of one build, on workers where it can.

    Args:
        cluster: has the workers.
        given: as `BuildRunner` takes it.
    """

    def __init__(self, cluster: Cluster, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._cluster = cluster
        secrets: Secrets | None = given.get("secrets")
        self._secrets: Secrets = {} if secrets is None else secrets
        self._build = os.urandom(16).hex()
        self._seats: dict[Worker, asyncio.Task[Seat]] = {}
        self._seated = AsyncExitStack()
        self._own_names: dict[str, str] = {}
        self._makers: dict[Digest, Worker] = {}

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._seated.aclose()
        finally:
            await super().__aexit__(*exc)

    async def content_digest(self, result: Result, selection: Selection) -> ContentDigest:
        """Digest what *selection* picks from *result*, at a worker where that has the tree and we do not."""
        if isinstance(result, Snapshot):
            for worker in self._cluster.holders_of(result.deltas):
                try:
                    seat = await self._seat(worker)
                    names = [self._portable(delta) for delta in result.deltas]
                    return await seat.digest(names, selection)
                except RpcError:
                    continue
        return await super().content_digest(result, selection)

    async def _run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        if not can_leave(vertex, inputs):
            return await super()._run(vertex, inputs, emit)
        op, stacks = await self._prepared(vertex, inputs, emit)
        named = list(dict.fromkeys(delta for stack in stacks for delta in stack))
        failures: dict[str, str] = {}
        before = self._makers.pop(vertex.digest, None)
        if before is not None and not before.is_closed:
            # The step runs again since what it made could not be had, or was not what it should be.
            failures[before.address] = "what it made before could not be used"
            before.faulted(
                vertex.meta.name, f"what it made of {vertex.meta.name} could not be used"
            )
        run = self._run_of(vertex)
        at: Worker | None = None  # who has the run by another coordinator's claim
        is_claimed = self._cluster.dispatch is not None
        while len(failures) < _MOST_FAILURES:
            needs = await self._needs(vertex, op, named, frozenset(failures))
            async with AsyncExitStack() as stack:
                fleet = self._cluster.fleet
                if at is None:
                    with paused(vertex.digest, SLOT, emit):
                        got = await stack.enter_async_context(fleet.slot(needs))
                else:
                    got = stack.enter_context(fleet.listening(at, needs))
                if got is None:
                    return await super()._run(vertex, inputs, emit)
                worker, slot = got
                ticket = self._ticket(run, vertex, op, stacks, named)
                try:
                    outcome = await self._run_at(
                        worker, slot, vertex, ticket, emit, is_claimed=is_claimed
                    )
                    if outcome.fault is None:
                        made = await self._taken(worker, vertex, outcome, named)
                        self._makers[vertex.digest] = worker
                        return made
                    reason = self._judge(worker, vertex, outcome.fault, named)
                except RunsThere as there:
                    at, is_claimed = None, False
                    if there.address not in failures:
                        at = self._cluster.fleet.worker(there.address)
                    continue
                except RpcError as error:
                    reason = f"lost: {error}" if _is_loss(worker, error) else f"it refused: {error}"
                except Misconduct as error:
                    reason = str(error)
                    worker.blame(reason)
            failures[worker.address] = reason
            at, is_claimed = None, self._cluster.dispatch is not None
            text = (
                f"worker {worker.address} failed {vertex.meta.name}, which runs elsewhere: {reason}"
            )
            emit(BuildWarning(message=text, at_once=True))
        raise EnvironmentFault(
            f"{vertex.meta.name} failed on {len(failures)} workers",
            hints=[f"{address}: {reason}" for address, reason in failures.items()][:2],
        )

    async def _needs(
        self, vertex: Vertex, op: ExecOp | FileOp, named: Sequence[str], avoid: frozenset[str]
    ) -> Needs:
        mounts = op.mounts if isinstance(op, ExecOp) else ()
        caches = [mount for mount in mounts if mount.type is MountType.CACHE]
        locked = [mount for mount in caches if mount.sharing is CacheSharing.LOCKED]
        results = self._cluster.engine.results
        return Needs(
            platform=op.platform if isinstance(op, ExecOp) else None,
            deltas=tuple(named),
            avoid=avoid,
            step=vertex.meta.name,
            seconds=await asyncio.to_thread(results.seconds, vertex.digest),
            memory_bytes=await asyncio.to_thread(results.peak, vertex.digest) * 5 // 4,
            mounts=tuple(mount.cache_id for mount in caches),
            locked=tuple(mount.cache_id for mount in locked),
        )

    def _judge(self, worker: Worker, vertex: Vertex, fault: StepFault, named: Sequence[str]) -> str:
        """Return why the step may do better elsewhere; raise its error otherwise."""
        if fault.is_of_machine:
            worker.faulted(vertex.meta.name, fault.message)
            return fault.message
        if fault.kind is StepFaultKind.GONE:
            delta = self._own_name(fault.delta)
            if delta not in named:
                raise Misconduct(f"it misses {fault.delta}, which the step does not use")
            raise replace(fault, delta=delta).error(vertex.meta.name)
        if fault.kind is StepFaultKind.STEP:
            fault = replace(fault, hints=(*fault.hints, f"it ran on worker {worker.name}"))
        raise fault.error(vertex.meta.name)

    async def _prepared(
        self, vertex: Vertex, inputs: Sequence[Result], emit: Emit
    ) -> tuple[ExecOp | FileOp, list[tuple[str, ...]]]:
        """Return the op and its inputs as stacks; what it mounts of a client's directory is copied for that."""
        op = vertex.op
        assert isinstance(op, ExecOp | FileOp)
        stacks = [one.deltas if isinstance(one, Snapshot) else () for one in inputs]
        if isinstance(op, FileOp):
            return op, stacks
        mounts = list(op.mounts)
        for number, mount in enumerate(mounts):
            if mount.input is None:
                continue
            tree = input_of(vertex, inputs, mount.input)
            if not isinstance(tree, LocalTree):
                continue
            path = os.path.normpath("/" + mount.selector.lstrip("/"))
            copy = await self._inputs.copy(vertex, mount.input, tree, path, emit)
            mounts[number] = replace(mount, input=len(stacks), selector=copy.selector)
            stacks.append(copy.snapshot.deltas)
        return replace(op, mounts=tuple(mounts)), stacks

    def _run_of(self, vertex: Vertex) -> str:
        """Return the run's name: its key, so that equal steps of other builds are the same run."""
        key = RUN_KEY.get()
        if key is None or vertex.meta.ignore_cache:
            return os.urandom(32).hex()
        return run_key(key, FORMAT)

    def _ticket(
        self,
        run: str,
        vertex: Vertex,
        op: ExecOp | FileOp,
        stacks: Sequence[Sequence[str]],
        named: Sequence[str],
    ) -> Ticket:
        deltas = [
            DeltaPlaces(
                name=self._portable(delta),
                places=tuple(worker.address for worker in self._cluster.fleet.holders(delta)),
            )
            for delta in named
        ]
        return Ticket(
            run=run,
            op=op,
            inputs=tuple(tuple(self._portable(delta) for delta in stack) for stack in stacks),
            scratch=tuple(
                number
                for number, source in enumerate(vertex.inputs)
                if isinstance(source.op, ScratchSource)
            ),
            deltas=tuple(deltas),
            name=vertex.meta.name,
            stage=vertex.meta.stage,
            ignore_cache=vertex.meta.ignore_cache,
        )

    def _portable(self, delta: str) -> str:
        """Return the name of a delta for other stores: there a patch is a delta like any other."""
        name = delta if whole_of(delta) is None else delta.partition(".")[0]
        self._own_names[name] = delta
        return name

    async def _run_at(
        self,
        worker: Worker,
        slot: HeldSlot,
        vertex: Vertex,
        ticket: Ticket,
        emit: Emit,
        *,
        is_claimed: bool,
    ) -> StepOutcome:
        hearing = Hearing(vertex.digest, ticket.run, emit, partial(setattr, slot, "pause"))
        where = VertexProgress(vertex=vertex.digest, id=f"worker {worker.name}", current=0)
        emit(where)
        try:
            seat = await self._seat(worker)
            dispatch = self._cluster.dispatch
            if is_claimed and dispatch is not None and dispatch.knows(worker.address):
                return await ClaimedStep(dispatch, ticket, hearing.hear).run(seat)
            return await seat.run(ticket, hearing.hear)
        finally:
            emit(replace(where, done=True))

    async def _taken(
        self, worker: Worker, vertex: Vertex, outcome: StepOutcome, named: Sequence[str]
    ) -> Snapshot:
        """Note what a worker has made, and return it as a tree."""
        deltas = tuple(self._own_names.get(name, name) for name in outcome.deltas)
        made = [delta for delta in deltas if delta not in named]
        worker.has.update(named, deltas)
        if made:
            self._cluster.fleet.sizes[made[-1]] = outcome.size
        if outcome.memory_bytes > 0:
            results = self._cluster.engine.results
            await asyncio.to_thread(results.save_peak, vertex.digest, outcome.memory_bytes)
        times = RUN_TIMES.get()
        if times is not None and 0 < outcome.seconds < _MOST_SECONDS:
            times.ran_s = outcome.seconds
        facts = LayerFacts(
            layout=LENT_PREFIX + worker.address,
            cache=f"worker {worker.address}",
            created=outcome.created,
        )
        await asyncio.to_thread(self._note, made, facts)
        return Snapshot(deltas)

    def _note(self, made: Sequence[str], facts: LayerFacts) -> None:
        """Note the deltas that are new; those under the topmost may be known, from another coordinator's run."""
        new: list[str] = []
        for delta in made:
            try:
                self._store.deltas.path(delta)
            except ValueError as error:
                raise Misconduct(f"it made what no delta is called: {error}") from error
            known = layer_facts(self._store.records, delta)
            is_new = known is None and not self._store.deltas.has_name(delta)
            is_its_own = known is not None and known.layout == facts.layout
            if (
                whole_of(delta) is not None
                or delta.startswith(("sha256-", "chain-"))
                or (delta == made[-1] and not (is_new or is_its_own))
            ):
                raise Misconduct(f"it made {delta}, which is no new delta")
            if is_new:
                new.append(delta)
        self._lease.add_all([("delta", delta) for delta in made])
        for delta in new:
            keep_layer(self._store.records, delta, facts)

    async def _seat(self, worker: Worker) -> Seat:
        """Return the build's seat at a worker, taken when first needed."""
        task = self._seats.get(worker)
        if task is None or (task.done() and not task.cancelled() and task.exception()):
            task = self._seats[worker] = asyncio.create_task(self._take_seat(worker))
        return await asyncio.shield(task)

    async def _take_seat(self, worker: Worker) -> Seat:
        engine = self._cluster.engine
        seat = Seat(engine, worker, self._build, self._secrets, self._own_name)
        self._seated.push_async_callback(seat.close)
        await seat.open()
        return seat

    def _own_name(self, name: str) -> str:
        return self._own_names.get(name, name)


def can_leave(vertex: Vertex, inputs: Sequence[Result]) -> bool:
    """Return whether a step can run elsewhere: it wants nothing that is this machine's alone."""
    match vertex.op:
        case FileOp():
            return all(isinstance(one, Snapshot) for one in inputs)
        case ExecOp() as op:
            return not (
                op.host_mounts
                or op.devices
                or op.proxied  # by a proxy that this build's own policies judge for
                or op.settings.resources.parent
                or op.settings.network is NetworkMode.HOST
                or op.security is not SecurityMode.SANDBOX
                or any(mount.type is MountType.SSH for mount in op.mounts)
                or len(kept_mounts(op)) != 1
            )
        case _:
            return False


def _is_loss(worker: Worker, error: RpcError) -> bool:
    """Return whether the worker has gone, rather than refused."""
    return worker.is_closed or error.code in (Code.UNAVAILABLE, Code.CANCELLED, Code.NOT_FOUND)
