"""Workers that answer from this process over real sockets, and a coordinator's engine that has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pybuild.buildkit.session.bytesmessage import CallBytes
from pybuild.builds.sources import BuildSources
from pybuild.cluster import wire
from pybuild.cluster.cluster import Cluster
from pybuild.cluster.coordinator import clustered
from pybuild.cluster.fleet import HeldSlot, Worker
from pybuild.cluster.messages import BUILD, BUILD_ID, DIGEST, HELLO, RUN, DigestAnswer, Hello
from pybuild.cluster.ticket import Said, StepOutcome, Ticket
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.executor.runner import BuildRunner
from pybuild.model.events import BuildWarning, Event
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import RpcError
from tests.daemon.serving import serving

Answer = Said | RpcError


class HereWorker:
    """A worker whose steps end as a test says, without any process.

    Attributes:
        answers: makes what is said of a ticket's step; an error ends the call.
        digests: the answers to questions for digests, in order.
        builds: the channel back to the coordinator, by build.
    """

    def __init__(
        self, slots: int = 2, platforms: tuple[Platform, ...] = (LINUX_AMD64,), **hello: Any
    ) -> None:
        self.hello = Hello(version="1", slots=slots, platforms=platforms, **hello)
        self.address = ""
        self.tickets: list[Ticket] = []
        self.questions: list[bytes] = []
        self.digests: list[DigestAnswer | RpcError] = []
        self.builds: dict[str, Channel] = {}
        self.closed_builds: list[str] = []
        self.answers: Callable[[Ticket], Sequence[Answer]] = lambda ticket: [
            Said(outcome=StepOutcome(deltas=("made",), created=1.5))
        ]
        self.meanwhile: Callable[[Ticket, Channel], Any] | None = None

    def handlers(self) -> dict[str, Handler]:
        return {
            HELLO: unary(self._hello),
            BUILD: self._build,
            RUN: self._run,
            DIGEST: unary(self._digest),
        }

    async def _hello(self, request: bytes, call: IncomingCall) -> bytes:
        assert wire.read(Hello, request) == Hello()
        return wire.write(self.hello)

    async def _build(self, call: IncomingCall) -> None:
        build = call.metadata.get(BUILD_ID) or ""
        channel = self.builds[build] = await Channel.over(CallBytes(call))
        await call.send_headers()
        await channel.closed.wait()
        await channel.close()
        self.closed_builds.append(build)

    async def _run(self, call: IncomingCall) -> None:
        ticket = wire.read(Ticket, await call.receive() or b"")
        self.tickets.append(ticket)
        if self.meanwhile is not None:
            await self.meanwhile(ticket, self.builds[call.metadata.get(BUILD_ID) or ""])
        for answer in self.answers(ticket):
            if isinstance(answer, RpcError):
                raise answer
            await call.send(wire.write(answer))

    async def _digest(self, request: bytes, call: IncomingCall) -> bytes:
        self.questions.append(request)
        answer = self.digests.pop(0)
        if isinstance(answer, RpcError):
            raise answer
        return wire.write(answer)


def warnings(events: Sequence[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, BuildWarning)]


def occupy(worker: Worker, steps: int) -> None:
    """Have so many slots of a worker held."""
    one = HeldSlot(step="other", began=0.0, ends=None, memory_bytes=0)
    worker.running[:] = [one] * steps


class Coordinator:
    """An engine with its cluster, and the runner of a build that has the secret ``key``."""

    def __init__(self, engine: Engine, cluster: Cluster, runner: BuildRunner) -> None:
        self.engine, self.cluster, self.runner = engine, cluster, runner


@asynccontextmanager
async def listening(workers: Sequence[HereWorker]) -> AsyncGenerator[list[str]]:
    """Have workers listen, each at an address of its own."""
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        for worker in workers:
            path = await stack.enter_async_context(serving(worker.handlers()))
            worker.address = f"unix://{path}"
        yield [worker.address for worker in workers]


@asynccontextmanager
async def coordinating(
    root: Path,
    workers: Sequence[HereWorker],
    secrets: Mapping[str, Callable[[], bytes]] | None = None,
) -> AsyncGenerator[Coordinator]:
    """Have an engine that runs its steps at *workers*."""
    async with (
        listening(workers) as addresses,
        Engine(Settings(root=str(root))) as engine,
        clustered(engine, addresses) as cluster,
    ):
        sources = BuildSources(engine, secrets=secrets or {}, allow=frozenset())
        try:
            async with sources.runner({}) as runner:
                yield Coordinator(engine, cluster, runner)
        finally:
            await sources.close()
