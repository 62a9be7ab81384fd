"""Steps of ours that are no vertices but that people see: loading, resolving, exporting [UI-2]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import (
    BuildWarning,
    Emit,
    Event,
    LogStream,
    VertexAdded,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexProgress,
    VertexStarted,
)

if TYPE_CHECKING:
    from pybuild.model.clock import Clock


class InternalStep:
    """A running step of ours; gives it a voice."""

    def __init__(self, vertex: Digest, emit: Emit, clock: Clock) -> None:
        self._vertex = vertex
        self._emit = emit
        self._clock = clock

    def say(self, line: str) -> None:
        data = line.encode() + b"\n"
        now = self._clock.now()
        stream = LogStream.STDOUT
        self._emit(VertexLog(vertex=self._vertex, time=now, stream=stream, data=data))

    @contextmanager
    def doing(self, what: str) -> Generator[None]:
        """Show *what* the step is at while the body runs; it stays open if that fails."""
        self.transfer(what, 0, 0)
        yield
        self.did(what)

    def did(self, what: str) -> None:
        """Show *what* is done; not a word of the log, so that clients keep it in sight."""
        self.transfer(what, 0, 0, done=True)

    def transfer(self, id: str, current: int, total: int, done: bool = False) -> None:
        """Report how far the transfer *id* is, in bytes; it is done when it has its total."""
        done = done or (total > 0 and current >= total)
        now = self._clock.now()
        self._emit(
            VertexProgress(
                vertex=self._vertex, id=id, current=current, total=total, done=done, time=now
            )
        )


def named_only(emit: Emit) -> Emit:
    """Pass on all events but those of vertices without a name, such as the empty tree: nobody
    asked for them."""
    nameless: set[Digest] = set()

    def pass_on(event: Event) -> None:
        if isinstance(event, VertexAdded) and not event.name:
            nameless.add(event.vertex)
        if isinstance(event, BuildWarning) or event.vertex not in nameless:
            emit(event)

    return pass_on


@asynccontextmanager
async def internal_step(name: str, emit: Emit, clock: Clock) -> AsyncGenerator[InternalStep]:
    """Show the body of the ``with`` as a step called *name*; errors pass through."""
    vertex = Digest.of(b"internal:" + name.encode())
    emit(VertexAdded(vertex=vertex, name=name))
    emit(VertexStarted(vertex=vertex, time=clock.now()))
    try:
        yield InternalStep(vertex, emit, clock)
    except asyncio.CancelledError:
        emit(VertexFailed(vertex=vertex, time=clock.now(), error="canceled", cancelled=True))
        raise
    except Exception as error:
        cause = unwrap(error)
        peer = cause.peer if isinstance(cause, PybuildError) else ""
        emit(VertexFailed(vertex=vertex, time=clock.now(), error=str(cause), peer=peer))
        raise
    emit(VertexCompleted(vertex=vertex, time=clock.now()))
