"""A build's seat at a worker: the call that keeps it, and what the worker may ask back in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from pybuild.buildkit.session.bytesmessage import CallBytes
from pybuild.cluster import wire
from pybuild.cluster.fleet import Worker
from pybuild.cluster.health import Misconduct
from pybuild.cluster.lending import Lending
from pybuild.cluster.messages import (
    BUILD,
    BUILD_ID,
    DIGEST,
    RUN,
    SECRET,
    DigestAnswer,
    DigestQuery,
    SecretQuery,
    read,
)
from pybuild.cluster.ticket import Said, StepOutcome, Ticket
from pybuild.engine.engine import Engine
from pybuild.executor.steps.execop import Secrets, looked_up
from pybuild.model.contents import ContentDigest
from pybuild.model.ops import ExecOp, MountType
from pybuild.model.selection import Selection
from pybuild.net.grpc.calls import IncomingCall, unary
from pybuild.net.grpc.clientcall import ClientCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.status import Code, RpcError

_FAREWELL_S = 2.0


class Seat:
    """One build at one worker.

    What the worker may ask for is what it was told of: layers of the deltas of its tickets, and secrets
    that the op of a running step names.

    Args:
        build: the build's id, which nobody else uses.
        own_name: returns our store's name of a delta in a ticket.
    """

    def __init__(
        self,
        engine: Engine,
        worker: Worker,
        build: str,
        secrets: Secrets,
        own_name: Callable[[str], str],
    ) -> None:
        self.worker = worker
        self._metadata = Metadata({BUILD_ID: build})
        self._secrets = secrets
        self._own_name = own_name
        self._lent: set[str] = set()
        self._running: dict[str, tuple[int, Ticket]] = {}
        self._lending = Lending(engine, self._known)
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Take the seat.

        Raises:
            RpcError: the worker refuses, or has gone.
        """
        call = await self._stack.enter_async_context(
            self.worker.channel.stream(BUILD, metadata=self._metadata)
        )
        server = GrpcServer({**self._lending.handlers(), SECRET: unary(self._secret)})
        task = asyncio.create_task(server.serve_stream(CallBytes(call)))
        self._stack.push_async_callback(_leave, call, server, task)
        await call.headers()

    async def close(self) -> None:
        """Give the seat up; what the build's steps made there may be freed."""
        await self._stack.aclose()

    async def run(self, ticket: Ticket, hear: Callable[[Said], None]) -> StepOutcome:
        """Have a step run, and *hear* what is said of it.

        Raises:
            RpcError: the worker has gone, or does not do it; Misconduct: it says what it should not.
        """
        async with self.offered(ticket) as said:
            async for one in said:
                if one.outcome is not None:
                    return one.outcome
                hear(one)
        raise RpcError(Code.UNAVAILABLE, "the worker ended a step without an outcome")

    @asynccontextmanager
    async def offered(self, ticket: Ticket) -> AsyncGenerator[AsyncGenerator[Said]]:
        """Offer a step within the context; the value is what is said of it, which raises as `run`."""
        self._lent |= {one.name for one in ticket.deltas}
        count, _ = self._running.get(ticket.run, (0, ticket))
        self._running[ticket.run] = count + 1, ticket
        try:
            async with self.worker.channel.stream(RUN, metadata=self._metadata) as call:
                await call.send(wire.write(ticket))
                await call.half_close()
                async with aclosing(_messages(call)) as said:
                    yield said
        finally:
            count, _ = self._running.pop(ticket.run)
            if count > 1:
                self._running[ticket.run] = count - 1, ticket

    async def digest(self, deltas: Iterable[str], selection: Selection) -> ContentDigest:
        """Return the digest of what *selection* picks from a tree that the worker holds.

        Raises:
            RpcError: as `run`; UserError: there is nothing.
        """
        query = DigestQuery(deltas=tuple(deltas), selection=selection)
        answer = read(
            DigestAnswer,
            await self.worker.channel.unary(DIGEST, wire.write(query), metadata=self._metadata),
        )
        if answer.content is None:
            if answer.fault is None:
                raise RpcError(Code.INTERNAL, "the worker answered nothing")
            if answer.fault.is_of_machine:
                raise RpcError(Code.INTERNAL, answer.fault.message)
            raise answer.fault.error("")
        return answer.content

    async def _secret(self, request: bytes, call: IncomingCall) -> bytes:
        del call
        id = read(SecretQuery, request).id
        if not any(_names(ticket, id) for _, ticket in self._running.values()):
            raise RpcError(Code.PERMISSION_DENIED, f"no step that runs there has the secret {id}")
        value = await looked_up(self._secrets, lambda: self._secrets.get(id))
        if value is None:
            raise RpcError(Code.NOT_FOUND, f"there is no secret {id}")
        return await looked_up(self._secrets, value)

    def _known(self, call: IncomingCall, delta: str) -> str | None:
        del call
        return self._own_name(delta) if delta in self._lent else None


async def _messages(call: ClientCall) -> AsyncGenerator[Said]:
    while (message := await call.receive()) is not None:
        try:
            yield wire.read(Said, message)
        except wire.Unreadable as error:
            raise Misconduct(f"it said what is no message: {error}") from error


def _names(ticket: Ticket, id: str) -> bool:
    mounts = ticket.op.mounts if isinstance(ticket.op, ExecOp) else ()
    return any(mount.type is MountType.SECRET and mount.id == id for mount in mounts)


async def _leave(call: ClientCall, server: GrpcServer, task: asyncio.Task[None]) -> None:
    await call.half_close()
    await asyncio.wait((task,), timeout=_FAREWELL_S)
    task.cancel()
    await server.close(0.0)
    await asyncio.gather(task, return_exceptions=True)
