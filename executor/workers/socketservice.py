"""Has the socketcalls of a step's 32-bit programs answered (`executor.zygote.socketcalls`).

The step's filter hands them to a descriptor that comes with the word that the step is ready. Most steps
have no such program, and cost a reader of the event loop. The first call of a step has a process
started: what a step asks for can take as long as the step likes, and must keep nobody but the step waiting.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from contextlib import suppress


class SocketService:
    """Serves the listener of one step until its last task has ended, or `close`.

    Args:
        fd: the listener, ours from now on.
        answer: serves it in another process until nobody is left who could call.
    """

    def __init__(self, fd: int, answer: Callable[[int], Awaitable[object]]) -> None:
        self._fd = fd
        self._answer = answer
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._begin)

    async def close(self) -> None:
        """Let further calls fail with ENOSYS; idempotent."""
        self._let_go()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _begin(self) -> None:
        self._loop.remove_reader(self._fd)
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        # The end of a step makes it readable, too, and is no call.
        if not any(event & select.POLLIN for _, event in poller.poll(0)):
            self._let_go()
            return
        self._task = self._loop.create_task(self._serve())

    async def _serve(self) -> None:
        try:
            # Without whoever answers, calls fail.
            with suppress(Exception):
                await self._answer(self._fd)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
