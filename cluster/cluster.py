"""A cluster, as the engine of a coordinator has it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection, Sequence
from contextlib import suppress

from pybuild.cache.records.layers import layer_facts
from pybuild.cluster.borrowing import Borrowing, DeltaPlace
from pybuild.cluster.dispatch import Dispatch
from pybuild.cluster.fleet import Fleet, Worker
from pybuild.engine.engine import Engine

_MEMBERS_S = 20.0
_LOOK_S = 0.05


class Cluster:
    """The workers of *engine*, which borrows the layers that they make.

    Args:
        addresses: of workers that are in no scheduler's books.
        dispatch: makes the claims, and knows the other workers; without it steps begin unclaimed.
    """

    def __init__(
        self,
        engine: Engine,
        addresses: Sequence[str],
        tls: ssl.SSLContext | None,
        dispatch: Dispatch | None = None,
    ) -> None:
        self.engine = engine
        self.dispatch = dispatch
        self._updates: set[asyncio.Task[None]] = set()
        self.fleet = Fleet(addresses, tls, engine.solver.resize)

    async def open(self, count: int = 0) -> None:
        """Connect to the workers, *count* of the scheduler's at least; who does not answer yet is tried again."""
        await self.fleet.open()
        if self.dispatch is not None:
            self.dispatch.tell = self._update
            self.dispatch.open()
            with suppress(TimeoutError):
                async with asyncio.timeout(_MEMBERS_S):
                    await self.dispatch.ready.wait()
                    while self._updates or len(self.fleet.workers) < count:
                        await asyncio.gather(*self._updates)
                        await asyncio.sleep(_LOOK_S)
        self.engine.images.peers = Borrowing(self.engine.store, self._places)

    async def close(self) -> None:
        """Leave the workers."""
        self.engine.images.peers = None
        if self.dispatch is not None:
            await self.dispatch.close()
        for task in self._updates:
            task.cancel()
        await self.fleet.close()
        self.engine.solver.resize(0)

    def holders_of(self, deltas: Sequence[str]) -> list[Worker]:
        """Return the workers that have all of a tree which this store has not, the idle ones first."""
        if not deltas or all(self.engine.store.deltas.has(delta) for delta in deltas):
            return []
        holders = self.fleet.holders(deltas[-1])
        return [worker for worker in holders if worker.has.issuperset(deltas)]

    def _update(self, addresses: Collection[str]) -> None:
        task = asyncio.create_task(self.fleet.update(addresses))
        self._updates.add(task)
        task.add_done_callback(self._updates.discard)

    def _places(self, delta: str) -> list[DeltaPlace]:
        facts = layer_facts(self.engine.store.records, delta)
        return self.fleet.places(delta, "" if facts is None else facts.layout)
