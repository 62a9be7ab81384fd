"""Carries a build's results away while it goes on, so that one that is killed keeps its work [CCH].

A step that ends wakes the carrier. It looks what is known of the build by then, sends the layers
that are new, and names them as they arrive, for a third of the time at most. A failed build waits for what
is on its way, an interrupted one for a moment only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.cacheresults import StepResult, step_results
from pybuild.cachewriter import CacheWriter, told
from pybuild.internal import internal_step
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.events import BuildWarning, Emit
from pybuild.model.ops import Vertex
from pybuild.solver.solution import Progress

if TYPE_CHECKING:
    from pybuild.engine import Engine

_SPACING_S = 0.2
_SPACING = 2
_MOST_FAILURES = 3
_INTERRUPTED_S = 3.0


class Carrier:
    """Keeps *writers* busy while a build is solved."""

    def __init__(self, engine: Engine, writers: Sequence[CacheWriter]) -> None:
        self._engine = engine
        self._news = asyncio.Event()
        self._followed: list[tuple[Sequence[Vertex], Progress]] = []
        self._known: dict[Digest, StepResult] = {}
        self._found: list[StepResult] = []
        self._rounds = [_Round(writer) for writer in writers]
        self._tasks: list[asyncio.Task[None]] = []

    def follow(self, targets: Sequence[Vertex]) -> Progress:
        """Return what is to be told while *targets* are solved."""
        progress = Progress(self._news.set)
        self._followed.append((targets, progress))
        if not self._tasks:
            works = [self._watch(), *(one.work() for one in self._rounds)]
            self._tasks = [asyncio.create_task(work) for work in works]
        return progress

    async def stop(self) -> None:
        """Begin nothing more; what is on its way goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def flush(self, emit: Emit, *, interrupted: bool) -> None:
        """Name what a build has made that came to no end; raises nothing that it met."""
        await self.stop()
        if not self._followed:
            return
        found = await self._look()
        for one in self._rounds:
            try:
                await self._flush(one, found, emit, interrupted=interrupted)
            except (PybuildError, OSError, TimeoutError, ExceptionGroup) as error:
                text = _text(error) or "there was no time"
                emit(BuildWarning(message=f"the cache was not exported: {text}"))

    async def _flush(
        self, one: _Round, found: list[StepResult], emit: Emit, *, interrupted: bool
    ) -> None:
        if one.writer.failure is not None:
            raise one.writer.failure  # it is out of reach; whoever waits for an error waits no longer
        if not interrupted and (found or one.sent):
            async with internal_step(one.writer.target.title, emit, self._engine.clock) as step:
                one.writer.hurry(step)
                await one.writer.send_all(found)
                await one.writer.publish(found)
                await one.writer.confirm(found)
        elif one.sent:
            async with asyncio.timeout(_INTERRUPTED_S):
                await one.writer.publish(found)

    async def _watch(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            found = await self._look()
            for one in self._rounds:
                one.offer(found)

    async def _look(self) -> list[StepResult]:
        """Return all results that are known by now; mere links only tell of what is done."""
        for targets, progress in self._followed:
            known = await progress.known()
            found = await asyncio.to_thread(
                step_results, self._engine.results, [known], targets, self._known
            )
            self._known |= {one.key: one for one in found if one.deltas}
        return list(self._known.values())


class _Round:
    """What one writer is given, and names."""

    def __init__(self, writer: CacheWriter) -> None:
        self.writer = writer
        self.sent: set[str] = set()
        self._found: list[StepResult] = []
        self._dirty = asyncio.Event()

    def offer(self, found: list[StepResult]) -> None:
        """Send what is new in *found*."""
        self._found = found
        for delta in {delta for one in found for delta in one.deltas} - self.sent:
            self.sent.add(delta)
            self.writer.send(delta).add_done_callback(self._arrived)
        self._dirty.set()

    def _arrived(self, task: asyncio.Task[object]) -> None:
        if not task.cancelled() and task.exception() is None:  # the end of the build tries again
            self._dirty.set()

    async def work(self) -> None:
        """Name what has arrived, again and again; a place that fails is left until the end."""
        failures, loop = 0, asyncio.get_running_loop()
        while failures < _MOST_FAILURES:
            await self._dirty.wait()
            self._dirty.clear()
            began = loop.time()
            try:
                await self.writer.publish(self._found)
                failures = 0
            except (PybuildError, OSError, ExceptionGroup):
                failures += 1
                self._dirty.set()
            await asyncio.sleep(max(_SPACING_S, _SPACING * (loop.time() - began)))


def _text(error: BaseException) -> str:
    cause = told(error)
    return cause.message if isinstance(cause, PybuildError) else str(cause)
