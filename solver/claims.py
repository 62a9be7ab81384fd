"""One run for equal work of several processes on one store [KEY-14]: one makes a result, the others wait.

Whoever runs a step has claimed its key in the store, and looks once more whether somebody else has
made it since it was looked up. Who finds it claimed gives back its place in the queue, so that other
steps go on, and asks again until it is free: then the result is there, or was not to be had, and is
made here. A process that is killed has claimed nothing any more. Nobody waits while it has claimed
something that is to be had only by who it waits for: a claim is taken by a step whose inputs are all
made, and waits for nothing but a place among the steps of its own process, which come to an end.

Nothing is claimed where stored results are ignored, nor without a key: that run is nobody else's.
Nor is an image, of which only the names of its layers are read here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from pybuild.model.digest import Digest
from pybuild.model.ops import ImageSource, OciLayoutSource
from pybuild.solver.messages import MadeByAnother, Ran, Run
from pybuild.solver.runner import Record, RecordStore
from pybuild.solver.scribe import Scribe
from pybuild.solver.turns import Turns

_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.1

Turn = Callable[[], AbstractAsyncContextManager[None]]
"""A place among the steps that run, held while the context is open."""


class SingleFlight:
    """Has each result made by one process at a time."""

    def __init__(self, store: RecordStore, scribe: Scribe, turns: Turns) -> None:
        self._store = store
        self._scribe = scribe
        self._turns = turns

    @asynccontextmanager
    async def made_once(
        self,
        what: Run,
        turn: Turn,
        run: Callable[[], Awaitable[Ran]],
        waits: Callable[[bool], None],
    ) -> AsyncGenerator[Ran | MadeByAnother]:
        """Run in turn, unless another process has done so, and let go once it is heard and stored.

        Args:
            waits: called with False before another process is waited for, then with True.
        """
        is_image = isinstance(what.vertex.op, ImageSource | OciLayoutSource)
        if what.key is None or what.fresh or is_image:
            async with turn():
                ran = await run()
            yield ran
            return
        is_ours = False
        try:
            async with turn():
                is_ours = self._store.claim(what.key)
                made = await self._make(what.ticket, what.key, run) if is_ours else None
            if made is None:
                waits(False)
                await self._claim(what.key)
                is_ours = True
                waits(True)
                record = await self._made_meanwhile(what.key)
                if record is not None:
                    made = MadeByAnother(what.ticket, record)
                else:
                    async with turn():
                        made = await run()
            yield made
            await self._turns.all_handled()
        finally:
            if is_ours:
                self._scribe.after(partial(self._store.release, what.key))

    async def _make(
        self, ticket: int, key: Digest, run: Callable[[], Awaitable[Ran]]
    ) -> Ran | MadeByAnother:
        record = await self._made_meanwhile(key)
        return await run() if record is None else MadeByAnother(ticket, record)

    async def _made_meanwhile(self, key: Digest) -> Record | None:
        try:
            return await asyncio.to_thread(self._store.made, key)
        except Exception:  # noqa: BLE001  a cache fault does not fail a build, and was told before
            return None

    async def _claim(self, key: Digest) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._store.claim(key):
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
