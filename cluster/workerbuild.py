"""One build of a coordinator, as a worker has it: a runner, and a channel back to who has the rest.

It lives as long as the coordinator's call `BUILD`: until then everything that its steps made or used is
leased, and with it everything of it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Self

from pybuild.builds.sources import BuildSources
from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.cluster import wire
from pybuild.cluster.borrowing import Borrowing, DeltaPlace
from pybuild.cluster.messages import SECRET, SecretQuery
from pybuild.cluster.ticket import DeltaPlaces, Ticket
from pybuild.model.contents import ContentDigest
from pybuild.model.errors import Cancelled, InternalError, UserError
from pybuild.model.events import Emit
from pybuild.model.layerfacts import LENT_PREFIX, LayerFacts
from pybuild.model.ops import ExecOp
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Snapshot
from pybuild.net.grpc.status import Code, RpcError
from pybuild.registry.client.credentials import NoCredentials

if TYPE_CHECKING:
    from pybuild.cluster.dialing import WorkerAddress
    from pybuild.engine.engine import Engine
    from pybuild.net.grpc.channel import Channel

_SECRET_S = 60.0


class WorkerBuild:
    """A build's share of a worker. An async context manager.

    Args:
        home: the channel to its coordinator.
        peer: returns a channel to another worker, by its address.

    Attributes:
        tasks: its runs; one that others listen to outlives the coordinator's call, and the build with it.
    """

    def __init__(self, engine: Engine, home: Channel, peer: Callable[[str], WorkerAddress]) -> None:
        self._engine = engine.for_client(NoCredentials())
        self._home = home
        self._peer = peer
        self.tasks: set[asyncio.Task[None]] = set()
        self._places: dict[str, tuple[str, ...]] = {}
        self._stack = AsyncExitStack()
        secrets = HomeSecrets(home, asyncio.get_running_loop())
        self._engine.images.peers = Borrowing(self._engine.store, self._places_of)
        self._sources = BuildSources(self._engine, secrets=secrets, allow=frozenset())
        self._runner = self._sources.runner({})

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._engine.close)
        self._stack.push_async_callback(self._sources.close)
        await self._stack.enter_async_context(self._runner)
        return self

    async def __aexit__(self, *exc: object) -> None:
        while self.tasks:
            await asyncio.wait(self.tasks)
        await self._stack.aclose()

    async def run(self, ticket: Ticket, emit: Emit) -> Snapshot:
        """Run a step and return its tree, leased while the build lives.

        Raises:
            StepError: its process failed; UserError, EnvironmentFault.
        """
        _refuse_of_the_machine(ticket)
        named = {one.name for one in ticket.deltas}
        if not all(named.issuperset(stack) for stack in ticket.inputs):
            raise InternalError("a ticket names inputs that it does not describe")
        await asyncio.to_thread(self._note, ticket.deltas)
        inputs = [Snapshot(stack) for stack in ticket.inputs]
        result = await self._runner.run(ticket.vertex(), inputs, emit)
        assert isinstance(result, Snapshot)
        return result

    async def holds(self, deltas: Sequence[str]) -> bool:
        """Lease a tree that another build's run has made here; return whether all of it is there."""
        store = self._engine.store

        def hold() -> bool:
            store.lease.add_all([("delta", delta) for delta in deltas])
            return all(
                store.deltas.has(delta) or layer_facts(store.records, delta) for delta in deltas
            )

        return await asyncio.to_thread(hold)

    async def digest(self, deltas: Sequence[str], selection: Selection) -> ContentDigest:
        """Return the digest of what *selection* picks from the tree of *deltas*."""
        return await self._runner.content_digest(Snapshot(tuple(deltas)), selection)

    def _note(self, deltas: Sequence[DeltaPlaces]) -> None:
        """Write where the deltas that are not here can be had."""
        store = self._engine.store
        lent = LayerFacts(layout=LENT_PREFIX, cache="the cluster")
        for one in deltas:
            store.deltas.path(one.name)  # a name that could leave the store is none
            self._places[one.name] = one.places
            store.lease.add("delta", one.name)
            if not store.deltas.has(one.name) and layer_facts(store.records, one.name) is None:
                keep_layer(store.records, one.name, lent)

    def _places_of(self, delta: str) -> list[DeltaPlace]:
        peers = [self._peer(address) for address in self._places.get(delta, ())]
        return [
            *(DeltaPlace(peer.address, peer.channel, delta) for peer in peers),
            DeltaPlace("the coordinator", self._at_home, delta),
        ]

    async def _at_home(self) -> Channel:
        return self._home


class HomeSecrets(Mapping[str, Callable[[], bytes]]):
    """The secrets of a build, asked for at its coordinator when a step wants one; for threads."""

    def __init__(self, home: Channel, loop: asyncio.AbstractEventLoop) -> None:
        self._home = home
        self._loop = loop

    def __getitem__(self, id: str) -> Callable[[], bytes]:
        future = asyncio.run_coroutine_threadsafe(self._ask(id), self._loop)
        data = future.result()
        if data is None:
            raise KeyError(id)
        return partial(bytes, data)

    async def _ask(self, id: str) -> bytes | None:
        try:
            query = wire.write(SecretQuery(id=id))
            return await self._home.unary(SECRET, query, timeout=_SECRET_S)
        except RpcError as error:
            if error.code is Code.NOT_FOUND:
                return None
            if error.code is Code.UNAVAILABLE:
                raise Cancelled(f"secret {id}: the coordinator has gone") from error
            raise UserError(f"secret {id}: {error.message}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _refuse_of_the_machine(ticket: Ticket) -> None:
    """Raise where a step wants what is this machine's alone; no coordinator of ours sends that."""
    op = ticket.op
    if isinstance(op, ExecOp) and (op.host_mounts or op.devices or op.settings.resources.parent):
        raise UserError(
            "a step with directories, devices or cgroups of a machine runs on no worker"
        )
