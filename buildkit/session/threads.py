"""Blocking work beside the event loop that is never left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


async def finish_in(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Run *work* in *pool*; a cancelled caller still waits for its end, and is cancelled then.

    So what the work uses can be closed as soon as this has returned or raised.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # somebody has looked at it
        raise cancelled
    return future.result()
