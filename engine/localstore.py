"""Work on the store of this machine, beside an engine: files of other user ids need its workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pybuild.cache.store import Store
from pybuild.engine.engine import Engine
from pybuild.engine.interruptible import run_interruptible
from pybuild.engine.settings import Settings

T = TypeVar("T")


def with_engine(
    settings: Settings, work: Callable[[Engine], Awaitable[T]], *, to_read: bool = False
) -> T:
    """Run *work* with an event loop and an engine of its own.

    Args:
        to_read: it changes nothing; see `Store.open`.
    """

    async def run() -> T:
        async with Engine(settings, to_read=to_read) as engine:
            return await work(engine)

    return run_interruptible(run())


def with_store(settings: Settings, work: Callable[[Store], T], *, to_read: bool = False) -> T:
    """Run *work* in a thread, as `with_engine`."""
    return with_engine(
        settings, lambda engine: asyncio.to_thread(work, engine.store), to_read=to_read
    )
