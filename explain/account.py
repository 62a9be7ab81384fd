"""Keeps account of one build while it goes on: what was cached, what ran and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import field

from pybuild.explain.cause import Explainer, Surroundings
from pybuild.explain.difference import FindListing
from pybuild.explain.report import CacheMountOrigin, Miss, Status, StepReport
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.events import (
    PULLING,
    Event,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexMount,
    VertexProgress,
    VertexStarted,
    VertexUsage,
)
from pybuild.model.named import KnownInputs
from pybuild.model.ops import ExecOp, FileOp, LocalSource, Vertex, walk
from pybuild.solver.messages import Run


class MissRefused(UserError):
    """A step would have to run, and ``--fail-on-miss`` says that none may."""


@dataclass(slots=True)
class _Seen:
    status: Status = Status.UNREACHED
    started: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    waited_seconds: float = 0.0
    pulled_seconds: float = 0.0
    pauses: dict[str, float] = field(default_factory=dict[str, float])
    mounts: dict[str, str] = field(default_factory=dict[str, str])
    misses: list[tuple[Vertex, Run]] = field(default_factory=list[tuple[Vertex, Run]])


class Account:
    """The account of one build's steps.

    Args:
        refuse: let nothing run: `missed` raises instead.
    """

    def __init__(self, *, refuse: bool = False) -> None:
        self._refuse = refuse
        self._seen: dict[Digest, _Seen] = {}

    def watch(self, event: Event) -> None:
        """Take in what happened to a step."""
        match event:
            case VertexStarted(vertex=vertex, time=time):
                self._of(vertex).started = time
            case VertexUsage(vertex=vertex):
                seen = self._of(vertex)
                seen.cpu_seconds = event.cpu_seconds
                seen.peak_memory_bytes = event.peak_memory_bytes
            case VertexProgress(vertex=vertex, id=id, unit="", done=done, time=time):
                self._paused(vertex, id, time, over=done)
            case VertexMount(vertex=vertex):
                self._of(vertex).mounts[event.id] = event.origin
            case VertexCached(vertex=vertex):
                self._of(vertex).status = Status.CACHED
            case VertexCompleted(vertex=vertex, time=time):
                self._ended(vertex, Status.RAN, time)
            case VertexFailed(vertex=vertex, time=time, cancelled=cancelled):
                self._ended(vertex, Status.UNREACHED if cancelled else Status.FAILED, time)
            case _:
                pass

    def missed(self, vertex: Vertex, run: Run) -> None:
        """Take in that a vertex is about to run.

        Raises:
            MissRefused: it may not.
        """
        seen = self._of(vertex.digest)
        seen.misses.append((vertex, run))
        if self._refuse and isinstance(vertex.op, ExecOp | FileOp):
            seen.status = Status.MISSED
            raise MissRefused(f'"{vertex.meta.name}" is not cached')

    @property
    def has_misses(self) -> bool:
        return any(seen.misses for seen in self._seen.values())

    @property
    def is_puzzling(self) -> bool:
        """Return whether a step ran without a request to run afresh."""
        return any(not run.fresh for seen in self._seen.values() for _, run in seen.misses)

    @property
    def missed_names(self) -> set[str]:
        """Return the names of the vertices that ran, or would have had to."""
        return {vertex.meta.name for seen in self._seen.values() for vertex, _ in seen.misses}

    def _of(self, vertex: Digest) -> _Seen:
        return self._seen.setdefault(vertex, _Seen())

    def _paused(self, vertex: Digest, id: str, time: float, *, over: bool) -> None:
        seen = self._of(vertex)
        if not over:
            seen.pauses[id] = time
        elif (began := seen.pauses.pop(id, None)) is not None:
            seconds = max(0.0, time - began)
            if id == PULLING:
                seen.pulled_seconds += seconds
            else:
                seen.waited_seconds += seconds

    def _ended(self, vertex: Digest, status: Status, time: float) -> None:
        seen = self._of(vertex)
        seen.seconds = max(0.0, time - seen.started) if seen.started else 0.0
        if seen.status is not Status.MISSED:
            seen.status = status

    # --- at the end -------------------------------------------------------------------------------

    def steps(
        self,
        targets: Sequence[Vertex],
        skip: Collection[Digest],
        known: Iterable[KnownInputs],
        find: FindListing,
        around: Surroundings,
    ) -> tuple[StepReport, ...]:
        """Return a report of every step of *targets*.

        Args:
            skip: vertices that were reported before.
            known: as `cause.Explainer`, but of this build's results too.
        """
        vertices = [
            vertex
            for vertex in walk(*targets)
            if vertex.meta.name
            and not isinstance(vertex.op, LocalSource)
            and vertex.digest not in skip
        ]
        names = {vertex.meta.name for vertex in vertices}
        explainer = Explainer(self._others(known, around.started), names, find, around)
        return tuple(
            self._step(number, vertex, explainer.explain)
            for number, vertex in enumerate(vertices, 1)
        )

    def _others(self, known: Iterable[KnownInputs], started: float) -> list[KnownInputs]:
        """Leave out what this build itself has made; an import may have the same key, and counts."""
        made = {run.key for seen in self._seen.values() for _, run in seen.misses}
        return [one for one in known if one.place or one.key not in made or one.first < started]

    def _step(self, number: int, vertex: Vertex, why: Callable[[Vertex, Run], Miss]) -> StepReport:
        seen = self._seen.get(vertex.digest, _Seen())
        run = seen.misses[0] if seen.misses else None
        return StepReport(
            number=number,
            name=vertex.meta.name,
            status=seen.status,
            seconds=round(seen.seconds, 3),
            cpu_seconds=seen.cpu_seconds,
            peak_memory_bytes=seen.peak_memory_bytes,
            waited_seconds=round(seen.waited_seconds, 3),
            pulled_seconds=round(seen.pulled_seconds, 3),
            key=str(run[1].key or "") if run else "",
            miss=why(*run) if run else None,
            mounts=tuple(
                CacheMountOrigin(id=id, origin=origin) for id, origin in seen.mounts.items()
            ),
        )
