"""Writes to the record store, in order, in a thread, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pybuild.model.digest import Digest

Write = Callable[[], None]

# Writing is a thread's work, which takes the interpreter from whatever starts the next step. Nobody
# waits for it meanwhile, so what comes within this time is written together.
GATHER_S = 0.025


class Scribe:
    """Keeps the order of writes and lets readers wait for those of their key.

    A write that fails is reported and forgotten: a cache fault does not fail a build.

    Args:
        report: called with each failed write, on the event loop.
    """

    def __init__(self, report: Callable[[Exception], None]) -> None:
        self._report = report
        self._waiting: list[tuple[Digest, Write]] = []
        self._after: list[Callable[[], None]] = []
        self._unwritten: dict[Digest, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_awaited = False
        self._gathering: asyncio.Future[None] | None = None

    def put(self, key: Digest, write: Write) -> None:
        """Write soon; `written` of *key* waits for it, and does not let it be long."""
        self._waiting.append((key, write))
        self._unwritten[key] = self._unwritten.get(key, 0) + 1
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def after(self, call: Callable[[], None]) -> None:
        """Call on the event loop, once everything put so far is written: now, if it is."""
        if self._task is None:
            call()
        else:
            self._after.append(call)

    async def written(self, key: Digest) -> None:
        """Return once nothing of *key* is waiting to be written."""
        while key in self._unwritten and self._task is not None:
            self.hurry()
            await asyncio.wait([self._task])

    async def all_written(self) -> None:
        """Return once nothing is waiting to be written."""
        while self._task is not None:
            self.hurry()
            await asyncio.wait([self._task])

    def hurry(self) -> None:
        """Write what there is now, since somebody is waiting."""
        self._is_awaited = self._task is not None
        self._end_gathering()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that ends when everything is written."""
        return self._task

    async def _work(self) -> None:
        await self._gather()
        self._is_awaited = False
        batch, self._waiting = self._waiting, []
        after, self._after = self._after, []
        try:
            loop = asyncio.get_running_loop()
            writing = loop.run_in_executor(None, _write_all, [write for _, write in batch])
            while not writing.done():
                with suppress(asyncio.CancelledError):  # as in `_gather`
                    await asyncio.wait([writing])
            for error in writing.result():
                self._report(error)
        finally:
            for key, _ in batch:
                self._unwritten[key] -= 1
                if not self._unwritten[key]:
                    del self._unwritten[key]
            if not self._waiting:  # nor is there anything that later ones would wait for
                after += self._after
                self._after = []
            self._task = asyncio.create_task(self._work()) if self._waiting else None
            for call in after:
                call()

    async def _gather(self) -> None:
        if self._is_awaited:
            return
        loop = asyncio.get_running_loop()
        self._gathering = loop.create_future()
        timer = loop.call_later(GATHER_S, self._end_gathering)
        with suppress(asyncio.CancelledError):  # the loop ends; what was put is written first
            await self._gathering
        timer.cancel()

    def _end_gathering(self) -> None:
        if self._gathering is not None and not self._gathering.done():
            self._gathering.set_result(None)


def _write_all(writes: list[Write]) -> list[Exception]:
    errors: list[Exception] = []
    for write in writes:
        try:
            write()
        except Exception as error:  # noqa: BLE001  whatever it is, the build goes on without it
            errors.append(error)
    return errors
