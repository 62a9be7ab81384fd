"""Bodies of requests, taken in piece by piece and within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.settings import ClientLimits

PIECE_BYTES = 1 << 20


async def pieces(request: web.BaseRequest, limits: ClientLimits) -> AsyncIterator[bytes]:
    """Yield the body in pieces of about a mebibyte.

    When the client goes away in the middle, what came is yielded before the error is raised.

    Raises:
        Refusal: it comes too slowly.
        OSError, aiohttp's payload errors: the client went away.
    """
    loop = asyncio.get_running_loop()
    batch = bytearray()
    since, got = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout(limits.idle_s):
                data = await request.content.readany()
        except TimeoutError:
            raise _slow(limits) from None
        except Exception:
            if batch:
                yield bytes(batch)
            raise
        if not data:
            break
        got += len(data)
        if loop.time() - since >= limits.idle_s:
            if got < limits.least_bytes:
                raise _slow(limits)
            since, got = loop.time(), 0
        batch += data
        if len(batch) >= PIECE_BYTES:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


async def whole(
    request: web.BaseRequest, limits: ClientLimits, most_bytes: int, what: str
) -> bytes:
    """Return a body that must be short.

    Raises:
        Refusal: it is longer than *most_bytes*, or comes too slowly.
    """
    if (request.content_length or 0) > most_bytes:
        raise too_large(what, most_bytes)
    data = bytearray()
    async for piece in pieces(request, limits):
        data += piece
        if len(data) > most_bytes:
            raise too_large(what, most_bytes)
    return bytes(data)


def too_large(what: str, most_bytes: int) -> Refusal:
    return Refusal(413, RefusalCode.SIZE_INVALID, f"{what} is longer than {most_bytes} bytes")


def _slow(limits: ClientLimits) -> Refusal:
    return Refusal(
        408,
        RefusalCode.BLOB_UPLOAD_INVALID,
        f"fewer than {limits.least_bytes} bytes came in {limits.idle_s:g} seconds",
        {"Connection": "close"},
    )
