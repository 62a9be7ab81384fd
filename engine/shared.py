"""One engine for all builds that go on in an event loop: equal steps of theirs run once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from weakref import WeakKeyDictionary

from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings


class _Shared:
    """An engine and how many builds use it; it is opened and closed by tasks of its own.

    A build that is cancelled while it waits for the engine must not take it from the others.
    """

    def __init__(self, settings: Settings) -> None:
        self.users = 0
        self._settings = settings
        self.opening = asyncio.create_task(Engine(settings).__aenter__())

    def is_for(self, settings: Settings) -> bool:
        # The registry server's part says nothing to builds, and tables know no equality.
        server = self._settings.registry_server
        return replace(settings, registry_server=server) == self._settings

    async def close(self) -> None:
        engine = await self.opening
        await engine.__aexit__(None, None, None)


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def engine_for(settings: Settings) -> AsyncGenerator[Engine]:
    """Give the engine that builds with these *settings* share; the last one out closes it."""
    all_here = _shared.setdefault(asyncio.get_running_loop(), [])
    shared = next((one for one in all_here if one.is_for(settings)), None)
    if shared is None:
        shared = _Shared(settings)
        all_here.append(shared)
    shared.users += 1
    try:
        yield await asyncio.shield(shared.opening)
    finally:
        shared.users -= 1
        if not shared.users:
            all_here.remove(shared)
            # Opening waits for nothing: it has not begun, or is done, well or with an error.
            if not shared.opening.done():
                shared.opening.cancel()
            elif shared.opening.exception() is None:
                await _to_the_end(asyncio.create_task(shared.close()))


async def _to_the_end(task: asyncio.Task[None]) -> None:
    """Wait for *task* also when we are cancelled; then tell that we were."""
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.done():
                break
            interrupted = error
    await task
    if interrupted is not None:
        raise interrupted
