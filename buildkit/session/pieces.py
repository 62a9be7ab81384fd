"""Files as streams of pieces, read in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

PIECE_BYTES = 1 << 20


async def pieces(path: str) -> AsyncGenerator[bytes]:
    """Give a file's bytes."""
    with open(path, "rb", buffering=0) as file:  # noqa: ASYNC230
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
