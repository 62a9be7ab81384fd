"""Carries a build's results away while it goes on, so that one that is killed keeps its work [CCH].

A step that ends wakes the carrier. It looks up the results that are known by then, sends the layers
that are new, and names them as they arrive, for half of the time at most. A step is announced as
done when it has been named. A failed build waits for the layers on their way, an interrupted one for a
moment only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.engine.progress import internal_step
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.events import BuildWarning, Emit
from pybuild.model.ops import Vertex
from pybuild.remotecache.announcements import Announcements
from pybuild.remotecache.options import in_doubt
from pybuild.remotecache.results import StepResult, step_results
from pybuild.remotecache.writer import CacheWriter, export_error
from pybuild.solver.solution import Known, Progress

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

_SPACING_S = 0.05
_SPACING = 1
_MOST_FAILURES = 3
_INTERRUPTED_S = 3.0


class Carrier:
    """Keeps *writers* busy while a build is solved."""

    def __init__(self, engine: Engine, writers: Sequence[CacheWriter]) -> None:
        self._engine = engine
        self._news = asyncio.Event()
        self._followed: list[tuple[Sequence[Vertex], Progress]] = []
        self._known: dict[Digest, StepResult] = {}
        self._results: list[StepResult] = []
        self._held = Announcements(engine.clock, self._carried)
        self._rounds = [_Round(writer, self._settle) for writer in writers]
        self._tasks: list[asyncio.Task[None]] = []

    def follow(self, targets: Sequence[Vertex]) -> Progress:
        """Return the progress listener for the solve of *targets*."""
        progress = Progress(self._news.set, self._held.hold)
        self._followed.append((targets, progress))
        if not self._tasks:
            works = [self._watch(), *(one.work() for one in self._rounds)]
            self._tasks = [asyncio.create_task(work) for work in works]
        return progress

    async def stop(self) -> None:
        """Begin nothing more; layers on their way go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def flush(self, emit: Emit, *, interrupted: bool) -> None:
        """Name the results of a build that came to no end; its own failures only become warnings."""
        try:
            await self._flush_all(emit, interrupted=interrupted)
        finally:
            self.end()

    def end(self) -> None:
        """Announce all steps that are still kept back, now that nothing more will be carried."""
        self._held.release()

    async def _flush_all(self, emit: Emit, *, interrupted: bool) -> None:
        await self.stop()
        if not self._followed:
            return
        results = await self._look()
        for one in self._rounds:
            try:
                await self._flush(one, results, emit, interrupted=interrupted)
            except (PybuildError, OSError, TimeoutError, ExceptionGroup) as error:
                text = _text(error) or "there was no time"
                message = in_doubt(f"the cache was not exported: {text}", one.writer.cache_to.meant)
                emit(BuildWarning(message=message))

    async def _flush(
        self, one: _Round, results: list[StepResult], emit: Emit, *, interrupted: bool
    ) -> None:
        if one.writer.failure is not None:
            raise one.writer.failure  # it is out of reach; whoever waits for an error waits no longer
        if not interrupted and (results or one.sent):
            async with internal_step(one.writer.target.title, emit, self._engine.clock) as step:
                one.writer.hurry(step)
                await one.writer.send_all(results)
                await one.publish(results)
                await one.writer.confirm(results)
        elif one.sent:
            async with asyncio.timeout(_INTERRUPTED_S):
                await one.publish(results)

    async def _watch(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            results = await self._look()
            for one in self._rounds:
                one.offer(results)

    async def _look(self) -> list[StepResult]:
        """Return all results that are known by now; mere links only show that a step is done."""
        done = self._held.unseen()
        all_known: list[Known] = []
        for targets, progress in self._followed:
            known = await progress.known()
            all_known.append(known)
            results = await asyncio.to_thread(
                step_results, self._engine.results, [known], targets, self._known
            )
            self._known |= {one.key: one for one in results if one.deltas}
        over = all(one.has_given_up for one in self._rounds)
        self._held.sort(done, all_known, () if over else self._known.keys())
        self._settle()
        return list(self._known.values())

    def _settle(self) -> None:
        if all(one.has_given_up for one in self._rounds):
            self._held.release()
        else:
            self._held.settle()

    def _carried(self, key: Digest) -> int | None:
        """Return the bytes that the result of *key* took, once it is at all places that take it."""
        sizes = [one.named.get(key) for one in self._rounds if not one.has_given_up]
        if None in sizes:
            return None
        return max((size for size in sizes if size is not None), default=None)


class _Round:
    """The layers that one writer is given, and the results that it has named.

    Args:
        settle: called when more has been named, or no more will be.

    Attributes:
        named: the bytes that went there for each result that is found there, by key.
        has_given_up: the place takes nothing at present; the end of the build tries again.
    """

    def __init__(self, writer: CacheWriter, settle: Callable[[], None]) -> None:
        self.writer = writer
        self.sent: set[str] = set()
        self.named: dict[Digest, int] = {}
        self.has_given_up = False
        self._settle = settle
        self._results: list[StepResult] = []
        self._dirty = asyncio.Event()

    def offer(self, results: list[StepResult]) -> None:
        """Send the new layers of *results*."""
        self._results = results
        if self.has_given_up:
            return
        for delta in {delta for one in results for delta in one.deltas} - self.sent:
            self.sent.add(delta)
            self.writer.send(delta).add_done_callback(self._arrived)
        self._dirty.set()

    def _arrived(self, task: asyncio.Task[object]) -> None:
        if task.cancelled():
            return
        if task.exception() is None:
            self._dirty.set()
        else:
            self._give_up()

    def _give_up(self) -> None:
        self.has_given_up = True
        self._settle()

    async def work(self) -> None:
        """Name the layers that have arrived, again and again; a failing place is left until the end."""
        failures, loop = 0, asyncio.get_running_loop()
        while not self.has_given_up:
            await self._dirty.wait()
            self._dirty.clear()
            began = loop.time()
            try:
                await self.publish(self._results)
                failures = 0
            except (PybuildError, OSError, ExceptionGroup):
                failures += 1
                self._dirty.set()
                if failures == _MOST_FAILURES:
                    self._give_up()
            await asyncio.sleep(max(_SPACING_S, _SPACING * (loop.time() - began)))

    async def publish(self, results: Sequence[StepResult]) -> None:
        """Name those of *results* that are there.

        Raises:
            PybuildError: it cannot be written.
        """
        arrived = self.writer.arrived(results)
        await self.writer.publish(results)
        self.named |= arrived
        self._settle()


def _text(error: BaseException) -> str:
    cause = export_error(error)
    return cause.message if isinstance(cause, PybuildError) else str(cause)
