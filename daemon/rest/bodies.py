"""Bodies of requests as they come: archives of any length, of which some piece has to come now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

from aiohttp import web

from pybuild.daemon.rest.refusal import ApiRefusal

T = TypeVar("T")


async def pieces(request: web.BaseRequest, silence_s: float) -> AsyncGenerator[bytes]:
    """Yield a body in pieces as they come, however slowly.

    Raises:
        ApiRefusal: nothing came for *silence_s*: the client hangs, or is gone without a word.
        aiohttp's payload errors: it has gone.
    """
    while piece := await _within(silence_s, request.content.readany()):
        yield piece


class LentBodies:
    """Bodies of requests that others wait for, by the names that both gave.

    Args:
        silence_s: how long one side waits for the other, and for a piece of the body.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._known: dict[str, tuple[asyncio.Future[web.BaseRequest], asyncio.Event]] = {}

    def _pair(self, name: str) -> tuple[asyncio.Future[web.BaseRequest], asyncio.Event]:
        pair = self._known.get(name)
        if pair is None:
            pair = asyncio.get_running_loop().create_future(), asyncio.Event()
            self._known[name] = pair
        return pair

    async def lend(self, name: str, request: web.BaseRequest) -> None:
        """Give the body of *request* to whoever borrows it, and wait until it was read.

        Raises:
            ApiRefusal: there is one already.
        """
        future, is_read = self._pair(name)
        if future.done():
            raise ApiRefusal(409, f"there is an upload {name[:100]} already")
        future.set_result(request)
        try:
            await is_read.wait()
        finally:
            self._known.pop(name, None)

    async def borrow(self, name: str) -> AsyncGenerator[bytes]:
        """Yield the body that is lent under this name, as soon as there is one.

        Raises:
            ApiRefusal: there is none, or nothing of it comes.
        """
        future, is_read = self._pair(name)
        try:
            request = await _within(self._silence_s, asyncio.shield(future))
            async for piece in pieces(request, self._silence_s):
                yield piece
        finally:
            is_read.set()
            self._known.pop(name, None)


async def _within(silence_s: float, coming: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(silence_s):
            return await coming
    except TimeoutError:
        raise ApiRefusal(408, f"nothing of the body came for {silence_s:g} seconds") from None
