"""The pauses of a step: what it waits for, told to whoever watches once it is more than a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager

from pybuild.model.digest import Digest
from pybuild.model.events import Emit, VertexProgress

SLOT = "waiting for a slot"
MOMENT_S = 0.1


def pause_of(vertex: Digest, id: str, *, over: bool) -> VertexProgress:
    """Return the news that a step waits, or that it does not any more."""
    return VertexProgress(
        vertex=vertex, id=id, current=0, done=over, unit="", time=round(time.time(), 6)
    )


@contextmanager
def paused(vertex: Digest, id: str, emit: Emit) -> Generator[None]:
    """Tell that a step waits while the context is open."""
    begins = pause_of(vertex, id, over=False)
    said: list[VertexProgress] = []

    def say() -> None:
        said.append(begins)
        emit(begins)

    timer = asyncio.get_running_loop().call_later(MOMENT_S, say)
    try:
        yield
    finally:
        timer.cancel()
        if said:
            emit(pause_of(vertex, id, over=True))
