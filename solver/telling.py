"""Events that watchers of a build are told, of what the state machine says."""

from __future__ import annotations

from pybuild.model.events import (
    Event,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexProgress,
    VertexStarted,
)
from pybuild.model.ops import Vertex
from pybuild.solver.messages import Phase, Tell

WAITING = "waiting for another build that runs this step"


def event_of(tell: Tell, now: float) -> Event:
    vertex = tell.vertex
    match tell.phase:
        case Phase.ADDED:
            return VertexAdded(
                vertex=vertex.digest,
                name=vertex.meta.name,
                inputs=tuple(source.digest for source in vertex.inputs),
                stage=vertex.meta.stage,
            )
        case Phase.STARTED:
            return VertexStarted(vertex=vertex.digest, time=now)
        case Phase.CACHED:
            return VertexCached(vertex=vertex.digest, time=now)
        case Phase.COMPLETED:
            return VertexCompleted(vertex=vertex.digest, time=now)
        case Phase.FAILED:
            return VertexFailed(
                vertex=vertex.digest,
                time=now,
                error=tell.error,
                cancelled=tell.cancelled,
                peer=tell.peer,
            )


def waiting(vertex: Vertex, now: float, *, over: bool) -> Event:
    """Return the news that a step waits for another process, or that it does not any more."""
    return VertexProgress(vertex=vertex.digest, id=WAITING, current=0, done=over, unit="", time=now)
