"""A cluster, as the engine of a coordinator has it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from pybuild.cache.records.layers import layer_facts
from pybuild.cluster.borrowing import Borrowing, DeltaPlace
from pybuild.cluster.fleet import Fleet, Worker
from pybuild.engine.engine import Engine
from pybuild.model.digest import Digest


class Cluster:
    """The workers of *engine*, which borrows the layers that they make.

    Attributes:
        peaks: the most memory that steps used the last time, by vertex; of this process's time.
    """

    def __init__(
        self, engine: Engine, addresses: Sequence[str], tls: ssl.SSLContext | None
    ) -> None:
        self.engine = engine
        self.fleet = Fleet(addresses, tls, engine.solver.resize)
        self.peaks: dict[Digest, int] = {}

    async def open(self) -> None:
        """Connect to the workers; who does not answer yet is tried again."""
        await self.fleet.open()
        self.engine.images.peers = Borrowing(self.engine.store, self._places)

    async def close(self) -> None:
        """Leave the workers."""
        self.engine.images.peers = None
        await self.fleet.close()
        self.engine.solver.resize(0)

    def holders_of(self, deltas: Sequence[str]) -> list[Worker]:
        """Return the workers that have all of a tree which this store has not, the idle ones first."""
        if not deltas or all(self.engine.store.deltas.has(delta) for delta in deltas):
            return []
        holders = self.fleet.holders(deltas[-1])
        return [worker for worker in holders if worker.has.issuperset(deltas)]

    def _places(self, delta: str) -> list[DeltaPlace]:
        facts = layer_facts(self.engine.store.records, delta)
        return self.fleet.places(delta, "" if facts is None else facts.layout)
