"""Answers that tell of work as it goes on, in lines of JSON [ENG-22, ENG-38]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pybuild.daemon.rest.exchange import ApiExchange, json_line
from pybuild.daemon.rest.refusal import refusal_of_any

_EVERY_BYTES = 1 << 20
_MOST_WAITING = 8 << 20


class ProgressLines:
    """Progress as lines of JSON; who does not read them is not waited for."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._said: dict[str, int] = {}
        self._waiting = 0
        self._is_clipped = False
        self._read = asyncio.Event()

    def say(self, **members: Any) -> None:
        line = json_line(members)
        self._waiting += len(line)
        self._lines.put_nowait(line)

    def log(self, text: str) -> None:
        """Pass on output of a step; while its client does not read, most of it is left out."""
        is_clipped = self._waiting > _MOST_WAITING
        if is_clipped and not self._is_clipped:
            text = "[output left out: it is not read as fast as it comes]\n"
        if not (is_clipped and self._is_clipped):
            self.say(stream=text)
        self._is_clipped = is_clipped

    def transfer(self, id: str, current: int, total: int) -> None:
        """Report how far a transfer is; not each byte of it."""
        before = self._said.get(id, -1)
        if 0 <= before and current < total and current - before < _EVERY_BYTES:
            return
        if before == total and before >= 0:
            return
        self._said[id] = current
        short = id.rpartition(":")[2][:12]
        if before < 0:
            self.say(status="Pulling fs layer", progressDetail={}, id=short)
        detail = {"current": current, "total": total}
        if current < total or not total:
            self.say(status="Downloading", progressDetail=detail, id=short)
        else:
            self.say(status="Download complete", progressDetail={}, id=short)
            self.say(status="Pull complete", progressDetail={}, id=short)

    async def room(self) -> None:
        """Wait until the client has read most of it; for what must not be left out."""
        while self._waiting > _EVERY_BYTES:
            self._read.clear()
            await self._read.wait()

    async def next(self) -> bytes:
        line = await self._lines.get()
        self._waiting -= len(line)
        self._read.set()
        return line

    def rest(self) -> bytes:
        lines: list[bytes] = []
        while not self._lines.empty():
            lines.append(self._lines.get_nowait())
        self._waiting = 0
        self._read.set()
        return b"".join(lines)


async def stream_work(
    exchange: ApiExchange,
    work: Callable[[ProgressLines], Awaitable[None]],
    *,
    begun: asyncio.Event | None = None,
) -> web.StreamResponse:
    """Answer with the progress of *work*; a failure before it has *begun* is an ordinary refusal [ENG-22]."""
    lines = ProgressLines()
    task = asyncio.ensure_future(work(lines))
    try:
        if begun is not None:
            waiting = asyncio.ensure_future(begun.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            await _ended(waiting)
            if task.done() and not begun.is_set():
                await task
        response = await exchange.begin()
        while not task.done():
            line = asyncio.ensure_future(lines.next())
            try:
                await asyncio.wait([task, line], return_when=asyncio.FIRST_COMPLETED)
                piece = line.result() if line.done() else b""
            finally:
                await _ended(line)
            if piece:
                await response.write(piece + lines.rest())
        if rest := lines.rest():
            await response.write(rest)
        try:
            await task
        except Exception as error:  # noqa: BLE001 - the head is out: it can only be told in the stream
            refusal = refusal_of_any(error)
            detail: dict[str, Any] = {"message": refusal.message}
            if refusal.code:
                detail = {"code": refusal.code, **detail}
            await response.write(json_line({"errorDetail": detail, "error": refusal.message}))
        await response.write_eof()
        return response
    finally:
        await _ended(task)


async def _ended(task: asyncio.Future[Any]) -> None:
    """Have a task end, whatever came of it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
