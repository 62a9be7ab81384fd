"""One thread for all that the definitions of one owner make the server compute.

How long reading a definition takes is its sender's to choose: nobody else waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class OneThread:
    """Runs one function after another, each in a thread beside the event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of *work*; where that is cancelled, the thread is nobody's until it ends."""
        await self._lock.acquire()
        task = asyncio.create_task(asyncio.to_thread(work))
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._lock.release()
        if not task.cancelled():
            task.exception()  # whoever waits raises it
