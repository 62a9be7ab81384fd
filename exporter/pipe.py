"""The bytes that work writes to a descriptor, as pieces to be sent on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

_PIECE_BYTES = 1 << 20


class Piped:
    """The bytes that *work* writes to a descriptor, as pieces; an async context manager.

    Leaving it waits for *work*, and raises its error.
    """

    def __init__(self, work: Callable[[int], Awaitable[None]]) -> None:
        self._work = work
        self._is_refused = False

    def refuse(self) -> None:
        """Let *work* end as it likes: nobody takes the rest of its bytes."""
        self._is_refused = True

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        self._task = asyncio.ensure_future(self._run())
        return self._pieces()

    async def __aexit__(self, *exc: object) -> None:
        if self._read >= 0:
            os.close(self._read)  # a writer that still writes gets EPIPE
            self._read = -1
        if exc[0] is not None or self._is_refused:
            with suppress(Exception):
                await self._task
        else:
            await self._task

    async def _run(self) -> None:
        try:
            await self._work(self._write)
        finally:
            os.close(self._write)

    async def _pieces(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while True:
            readable = loop.create_future()
            loop.add_reader(self._read, _wake, readable)
            try:
                await readable
            finally:
                loop.remove_reader(self._read)
            try:
                data = os.read(self._read, _PIECE_BYTES)
            except BlockingIOError:
                continue
            if not data:
                break
            yield data
        await asyncio.shield(self._task)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
