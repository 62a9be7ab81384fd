"""A layer that is unpacked while its blob still comes [ARC-7].

The worker reads the file that the blob is written to. What it makes counts only when the blob turned
out to be whole and what it should be; until then it is a directory of ours that nobody else knows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pybuild.model.errors import PybuildError

Answer = TypeVar("Answer")


class StreamedLayer(Generic[Answer]):
    """Follows a blob on its way into the store (`cache.content.blobwriter.Follower`) and has it unpacked.

    Args:
        unpack: has a worker unpack what it reads from two descriptors (`image.layer.growingfile`).
    """

    def __init__(self, unpack: Callable[[list[int]], Awaitable[Answer]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._unpack = unpack
        self._task: asyncio.Task[Answer] | None = None
        self._tell = -1
        self._is_one = True

    def begun(self, fd: int) -> None:
        progress_fd, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        self._loop.call_soon_threadsafe(self._start, fd, progress_fd)

    def grown(self) -> None:
        try:
            os.write(self._tell, b"\0")
        except (BlockingIOError, BrokenPipeError):
            pass  # it has not read what it was told before, or has seen enough

    def ended(self) -> None:
        os.close(self._tell)

    def _start(self, fd: int, progress_fd: int) -> None:
        if self._task is not None:
            # Another mirror sends it from the start, to another file; the first may have been wrong.
            self._is_one = False
            os.close(fd)
            os.close(progress_fd)
            return

        def close(task: asyncio.Task[Answer]) -> None:
            os.close(fd)
            os.close(progress_fd)
            if not task.cancelled():
                task.exception()  # whoever wants the outcome is told below

        self._task = asyncio.create_task(self._run([fd, progress_fd]))
        self._task.add_done_callback(close)

    async def _run(self, fds: list[int]) -> Answer:
        return await self._unpack(fds)

    async def outcome(self) -> Answer | None:
        """Return the worker's answer. None: the target is empty, unpack the blob that is there.

        To be asked when the blob is whole.
        """
        if self._task is None:
            return None
        try:
            done = await self._task
        except PybuildError:
            return None  # whoever reads the blob again says what is wrong with it
        return done if self._is_one else None

    async def stop(self) -> None:
        """Have the worker end; returns when it has."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
