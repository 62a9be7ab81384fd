"""Parts of files as bodies of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pybuild.model.errors import EnvironmentFault

_PIECE_BYTES = 1 << 20


async def part_of(source: str | bytes, start: int, length: int) -> AsyncIterator[bytes]:
    """Yield a part of a file or of bytes; each reader has its own file."""
    if isinstance(source, bytes):
        yield source[start : start + length]
        return
    with open(source, "rb") as file:  # noqa: ASYNC230 - who is cancelled meanwhile would never see it
        file.seek(start)
        while length:
            data = await asyncio.to_thread(file.read, min(_PIECE_BYTES, length))
            if not data:
                raise EnvironmentFault(f"{source}: the stored file shrank")
            length -= len(data)
            yield data
