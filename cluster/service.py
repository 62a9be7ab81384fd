"""The calls that a worker answers: builds, steps, digests, layers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import wraps

from pybuild.buildkit.session.bytesmessage import CallBytes
from pybuild.cache.records.layers import layer_facts
from pybuild.cluster.dialing import WorkerAddresses
from pybuild.cluster.lending import Lending
from pybuild.cluster.messages import (
    BUILD,
    BUILD_ID,
    DIGEST,
    HELLO,
    RUN,
    DigestAnswer,
    DigestQuery,
    Hello,
    answering,
    read,
)
from pybuild.cluster.pauses import pause_of
from pybuild.cluster.roles import LENDERS, Role
from pybuild.cluster.stepruns import StepRuns
from pybuild.cluster.ticket import FORMAT, StepFault, StepFaultKind, StepOutcome, Ticket
from pybuild.cluster.workerbuild import WorkerBuild
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.executor.runnable import runnable
from pybuild.exporter.layermaker import made_at
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import PULLING, RUN_TIMES, Emit, RunTimes
from pybuild.model.package import VERSION
from pybuild.model.platform import Platform
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.peer import Peer
from pybuild.net.grpc.status import Code, RpcError

_FULL_BYTES = 16 << 20


class WorkerService:
    """A worker's side of all calls.

    Args:
        slots: the number of steps at once, of all builds.
        trusts: whether who called acts in one of these roles.
        platforms: those whose steps it runs; empty: all that it can.
    """

    def __init__(
        self,
        engine: Engine,
        slots: int,
        peers: WorkerAddresses,
        trusts: Callable[[Peer, Collection[Role]], bool],
        platforms: Sequence[Platform] = (),
    ) -> None:
        self._engine = engine
        self._peers = peers
        self._trusts = trusts
        self._slots = slots
        self._platforms = tuple(platforms)
        self.runs = StepRuns(slots, self._outcome)
        self._leaving: set[asyncio.Task[None]] = set()
        self._builds: dict[tuple[str, str], WorkerBuild] = {}
        self._lending = Lending(engine, self._known)

    def handlers(self) -> dict[str, Handler]:
        """Return the calls by method; none is answered to whom the worker does not trust with it."""
        of_coordinators = {
            HELLO: answering(Hello, self._hello),
            BUILD: self._build,
            RUN: self._run,
            DIGEST: answering(DigestQuery, self._digest),
        }
        of_both = self._lending.handlers()
        return {
            **{name: self._guarded(one, Role.COORDINATOR) for name, one in of_coordinators.items()},
            **{name: self._guarded(one, *LENDERS) for name, one in of_both.items()},
        }

    def _guarded(self, handler: Handler, *roles: Role) -> Handler:
        @wraps(handler)
        async def handle(call: IncomingCall) -> None:
            if not self._trusts(call.peer, roles):
                raise RpcError(Code.PERMISSION_DENIED, _refusal(call.peer))
            await handler(call)

        return handle

    async def _hello(self, query: Hello, call: IncomingCall) -> Hello:
        del call
        if query.format != FORMAT:
            raise RpcError(
                Code.FAILED_PRECONDITION,
                f"this worker speaks format {FORMAT} (pybuild {VERSION}), not {query.format}",
            )
        platforms = self._platforms or tuple(runnable(native_platform()))
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Hello(version=VERSION, slots=self._slots, platforms=platforms, memory_bytes=memory)

    async def _build(self, call: IncomingCall) -> None:
        """Keep a build for as long as the call lasts; the call carries the channel back."""
        key = _key(call)
        if key in self._builds:
            raise RpcError(Code.ALREADY_EXISTS, f"build {key[1]} is open")
        channel = await Channel.over(CallBytes(call))
        build = WorkerBuild(self._engine, channel, self._peers.get)
        try:
            await build.__aenter__()
            self._builds[key] = build
            await call.send_headers()
            await channel.closed.wait()
        finally:
            self._builds.pop(key, None)
            leaving = asyncio.create_task(_leave(build, channel))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _run(self, call: IncomingCall) -> None:
        """Offer a step, and say what happens until it ends; it is stopped when nobody listens any more."""
        build = self._of(call)
        ticket = read(Ticket, await call.receive() or b"")
        if ticket.format != FORMAT:
            raise RpcError(Code.FAILED_PRECONDITION, f"tickets of format {FORMAT} are read here")
        async with aclosing(self.runs.listen(build, ticket)) as messages:
            async for message in messages:
                await call.send(message)

    async def close(self) -> None:
        """Stop all runs, and return when their builds have ended."""
        await self.runs.close()
        while self._leaving:
            await asyncio.wait(self._leaving)

    async def _outcome(self, build: WorkerBuild, ticket: Ticket, emit: Emit) -> StepOutcome:
        """Return the outcome of a step, with the seconds that were its own work's."""

        def tell(is_pulling: bool) -> None:
            emit(pause_of(ticket.vertex().digest, PULLING, over=not is_pulling))

        times, began = RunTimes(time.monotonic, tell), time.monotonic()
        RUN_TIMES.set(times)  # of this run's own task
        outcome = await self._ended(build, ticket, emit)
        return replace(outcome, seconds=round(times.own_s(time.monotonic() - began), 6))

    async def _ended(self, build: WorkerBuild, ticket: Ticket, emit: Emit) -> StepOutcome:
        try:
            result = await build.run(ticket, emit)
            top = result.deltas[-1] if result.deltas else ""
            if not top or top in {one.name for one in ticket.deltas}:
                return StepOutcome(deltas=result.deltas)
            return await asyncio.to_thread(self._described, result.deltas)
        except Exception as error:  # noqa: BLE001  the coordinator raises it
            fault = StepFault.of(unwrap(error))
            if fault.kind is StepFaultKind.STEP and (free := self._free_bytes()) < _FULL_BYTES:
                # The program may have failed for that: where there is room it is seen.
                text = f"{fault.message}, with {free >> 20} MiB left on the worker's disk"
                fault = StepFault(kind=StepFaultKind.ENVIRONMENT, message=text)
            return StepOutcome(fault=fault)

    def _described(self, deltas: tuple[str, ...]) -> StepOutcome:
        store, top = self._engine.store, deltas[-1]
        meta = store.deltas.meta(top)
        return StepOutcome(
            deltas=deltas,
            created=made_at(store, top),
            size=store.measure(store.deltas.path(top)).size,
            memory_bytes=int(meta.get("peak_memory_bytes") or 0),
        )

    def _free_bytes(self) -> int:
        disk = os.statvfs(self._engine.store.root)
        return disk.f_bavail * disk.f_frsize

    async def _digest(self, query: DigestQuery, call: IncomingCall) -> DigestAnswer:
        try:
            content = await self._of(call).digest(query.deltas, query.selection)
            return DigestAnswer(content=content)
        except PybuildError as error:
            return DigestAnswer(fault=StepFault.of(error))

    def _of(self, call: IncomingCall) -> WorkerBuild:
        build = self._builds.get(_key(call))
        if build is None:
            raise RpcError(Code.NOT_FOUND, "this build is not open here")
        return build

    def _known(self, call: IncomingCall, delta: str) -> str | None:
        """Return the name of a delta that is here. Who knows the name of one that a step made may have it:
        it is 128 random bits, which only tickets tell."""
        del call
        store = self._engine.store
        if store.deltas.has_name(delta) and store.deltas.has(delta):
            return delta
        facts = layer_facts(store.records, delta)
        is_here = facts is not None and facts.descriptor is not None
        return delta if is_here and store.blobs.holds(facts.descriptor) else None  # type: ignore[union-attr,arg-type]


def _refusal(peer: Peer) -> str:
    if peer.kind != "tcp":
        return "this worker works for others"
    roles = ", ".join(peer.units) or "none"
    return f"this worker works for coordinators; the role of your certificate is: {roles}"


def _key(call: IncomingCall) -> tuple[str, str]:
    return call.peer.owner, call.metadata.get(BUILD_ID) or ""


async def _leave(build: WorkerBuild, channel: Channel) -> None:
    await build.__aexit__()
    await channel.close()
