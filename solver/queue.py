"""The queues for a share of the machine: jobs in turn, and of each what has the longest way to go first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from pybuild.model.digest import Digest


class Weights:
    """Seconds from each vertex's start to the end of one job, made only once a queue needs them.

    Args:
        compute: called in a thread; what it raises counts as nothing known.
    """

    def __init__(self, compute: Callable[[], Mapping[Digest, float]]) -> None:
        self._compute = compute
        self._then: list[Callable[[], None]] = []
        self.known: Mapping[Digest, float] | None = None
        self.task: asyncio.Task[None] | None = None

    def demand(self, then: Callable[[], None]) -> None:
        """Call *then* once the weights are known."""
        if then not in self._then:
            self._then.append(then)
        if self.task is None:
            self.task = asyncio.create_task(self._make())

    async def _make(self) -> None:
        try:
            self.known = await asyncio.to_thread(self._compute)
        finally:
            if self.known is None:
                self.known = {}
            for then in self._then:
                then()


class Queue:
    """A queue for *places* places.

    Args:
        is_ordered: what waits takes long enough for its order to be worth waiting for. Else who is
            not weighed yet comes after those who are, as it came.
    """

    def __init__(self, places: int, *, is_ordered: bool = False) -> None:
        if places < 1:
            raise ValueError(f"a queue for {places} places would never move")
        self.places = places
        self._is_ordered = is_ordered
        self._free = places
        self._newcomers: list[tuple[Digest, Weights, asyncio.Future[None]]] = []
        self._ranked: dict[Weights, list[tuple[float, int, asyncio.Future[None]]]] = {}
        self._held: Counter[Weights] = Counter()
        self._numbers = itertools.count()
        self._woken = False

    def resize(self, places: int) -> None:
        """Have another number of places from now on; who holds one keeps it."""
        if places < 1:
            raise ValueError(f"a queue for {places} places would never move")
        self._free += places - self.places
        self.places = places
        self.wake()

    @asynccontextmanager
    async def place(self, vertex: Digest, weights: Weights) -> AsyncGenerator[None]:
        """Hold a place while the context is open."""
        turn = asyncio.get_running_loop().create_future()
        self._newcomers.append((vertex, weights, turn))
        self.wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(weights)
            raise
        try:
            yield
        finally:
            self._leave(weights)

    def _enter(self, weights: Weights, turn: asyncio.Future[None]) -> None:
        self._free -= 1
        self._held[weights] += 1
        turn.set_result(None)

    def _leave(self, weights: Weights) -> None:
        self._free += 1
        self._held[weights] -= 1
        if not self._held[weights]:
            del self._held[weights]
        self.wake()

    def wake(self) -> None:
        """Serve the queue soon: after all that become ready at the same time have joined it."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self.serve)

    def serve(self) -> None:
        self._woken = False
        self._newcomers = [entry for entry in self._newcomers if not entry[2].done()]
        if not self._ranked and len(self._newcomers) <= self._free:
            for _, weights, turn in self._newcomers:
                self._enter(weights, turn)
            self._newcomers = []
            return
        unknown: list[tuple[Digest, Weights, asyncio.Future[None]]] = []
        for entry in self._newcomers:
            vertex, weights, turn = entry
            if weights.known is None and self._is_ordered:
                unknown.append(entry)
                weights.demand(self.wake)
            else:
                rank = -(weights.known or {}).get(vertex, 0.0)
                ranked = self._ranked.setdefault(weights, [])
                heapq.heappush(ranked, (rank, next(self._numbers), turn))
        self._newcomers = unknown
        if unknown:
            return  # a moment, mostly networkx's import; better than to start the wrong one
        while self._free > 0 and self._ranked:
            # The job that holds least comes first, so that a wide one keeps no other waiting.
            weights = min(self._ranked, key=lambda one: (self._held[one], self._ranked[one][0]))
            turn = heapq.heappop(self._ranked[weights])[2]
            if not self._ranked[weights]:
                del self._ranked[weights]
            if not turn.done():
                self._enter(weights, turn)
