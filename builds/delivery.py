"""A build's steps in their order, whoever asks for it: caches, solves, attestations, outputs.

What differs between this machine and a client of a server comes in as functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.engine.limits import keep_mounts, keep_within
from pybuild.engine.progress import named_only
from pybuild.engine.solve import solve
from pybuild.executor.fetch import LayerGone
from pybuild.exporter.built import Built, Exported
from pybuild.exporter.earlypush import importing_ahead
from pybuild.exporter.export import export_all, is_delivered
from pybuild.exporter.sink import NotedSink
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import BuildWarning, Emit
from pybuild.model.ops import ExecOp, NetworkMode, Vertex, walk
from pybuild.model.snapshot import Snapshot
from pybuild.solver.drive import OnMiss, goes_on
from pybuild.solver.job import every

if TYPE_CHECKING:
    from pybuild.cache.content.origins import Origin
    from pybuild.engine.engine import Engine
    from pybuild.executor.runner import BuildRunner
    from pybuild.exporter.output import Output
    from pybuild.exporter.sink import Sink
    from pybuild.model.digest import Digest
    from pybuild.model.ops import Op
    from pybuild.model.reference import Reference
    from pybuild.remotecache.session import CacheSession
    from pybuild.solver.messages import Run
    from pybuild.solver.solution import Solution

_MOST_LOSSES = 8
"""So many layers may be lost between solving and the end of the delivery, one by one."""


class Solves:
    """The solves of one build: all are delivered, carried to caches and watched alike.

    Args:
        whole: the results themselves are delivered, not only made.
        missed: called with each step that is about to run.

    Attributes:
        solutions: oldest first.
    """

    def __init__(
        self,
        engine: Engine,
        cache_session: CacheSession | None = None,
        *,
        whole: bool = True,
        missed: OnMiss = goes_on,
    ) -> None:
        self._engine = engine
        self._cache_session = cache_session
        self._whole = whole
        self._missed = missed
        self.solutions: list[Solution] = []
        self._began = engine.clock.now()

    async def solve(self, targets: Sequence[Vertex], runner: BuildRunner, emit: Emit) -> Solution:
        """Make *targets*.

        Raises:
            PybuildError: one of their steps failed.
        """
        session = self._cache_session
        if any(vertex.meta.max_age_s is not None for vertex in every(tuple(targets))):
            from pybuild.builds.maxage import without_old

            targets = await without_old(self._engine, targets, runner, now=self._began)
        solution = await solve(
            self._engine,
            targets,
            runner,
            named_only(emit),
            whole=self._whole,
            progress=None if session is None else session.follow(targets),
            missed=foreseeing_steps(targets, runner.foresee, self._missed),
        )
        self.solutions.append(solution)
        return solution

    def known(self, vertex: Vertex) -> tuple[str, ...] | None:
        """Return the deltas of the result of *vertex* in this build, if that is known."""
        for solution in self.solutions:
            solved = solution.get(vertex)
            if solved is not None and isinstance(solved.result, Snapshot):
                return solved.result.deltas
        return None

    def key(self, vertex: Vertex) -> Digest | None:
        """Return the key of the result of *vertex*, be it made in this build or not."""
        return next((key for one in self.solutions if (key := one.key(vertex))), None)


def foreseeing_steps(
    targets: Sequence[Vertex], foresee: Callable[[int], None], missed: OnMiss
) -> OnMiss:
    """Return *missed* that also tells, once, when the first of what steps are built on runs.

    What they need beside it can be made ready meanwhile. Where one ignores the cache, it is told at once.
    A step that is found in the cache needs nothing, and has nothing run that it is built on.

    Args:
        foresee: is told the number of steps that ask for no network.
    """
    order = list(walk(*targets))
    steps = [vertex for vertex in order if _asks_for_no_network(vertex.op)]
    if not steps:
        return missed
    if any(step.meta.ignore_cache for step in steps):
        foresee(len(steps))
        return missed
    below: set[Digest] = set()
    for vertex in reversed(order):
        if vertex.digest in below or _asks_for_no_network(vertex.op):
            below.update(source.digest for source in vertex.inputs)

    def missed_or_first(vertex: Vertex, run: Run) -> None:
        if vertex.digest in below:
            below.clear()
            foresee(len(steps))
        missed(vertex, run)

    return missed_or_first


def _asks_for_no_network(op: Op) -> bool:
    return isinstance(op, ExecOp) and op.settings.network is NetworkMode.DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The places of a build's results.

    Attributes:
        tags: of images, beside those of their outputs.
        sink: gives the place for the bytes of an output, by its number.
        origin: that an image kept in the store is the last result of; None: that does not keep it.
    """

    outputs: Sequence[Output]
    tags: Sequence[Reference]
    sink: Callable[[int], Sink]
    origin: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The traces of a delivery.

    Attributes:
        exported: by the number of the output.
        cache: the manifest of the cache, if one was written.
    """

    exported: Sequence[Exported]
    built: Sequence[Built]
    cache: Descriptor | None


async def solve_and_deliver(
    engine: Engine,
    delivery: Delivery,
    *,
    caches: Callable[[], Awaitable[CacheSession]],
    results: Callable[[Solves], Awaitable[Sequence[Built]]],
    attest: Callable[[Sequence[Built], Solves], Awaitable[Sequence[Built]]],
    missed: OnMiss,
    emit: Emit,
    finish: Callable[[Sequence[Output]], Sequence[Output]] = lambda outputs: outputs,
    more: bool = False,
) -> Delivered:
    """Make the results of a build, and bring them where they are to go.

    Args:
        caches: opens the remote caches that are read and written.
        results: solves, and returns what is delivered.
        attest: returns results with their attestations.
        missed: called with each step that is about to run.
        finish: returns the outputs as the results want them.
        more: that may be more of them than *delivery* has.

    Raises:
        PybuildError: a step failed, or a result cannot go there.
    """
    cache_session = await caches()
    for attempt in range(_MOST_LOSSES):
        places: list[Sink] = []

        def sink(number: int, places: list[Sink] = places) -> Sink:
            places.append(NotedSink(delivery.sink(number)))
            return places[-1]

        solves = Solves(
            engine,
            cache_session,
            whole=more or is_delivered(delivery.outputs),
            missed=importing_ahead(delivery.outputs, missed),
        )
        outputs = delivery.outputs
        try:
            built = await results(solves)
            targets = [one.lowered.result for one in built]
            built = await attest(built, solves)
            inline = await cache_session.inline(solves.solutions, targets)
            built = [
                replace(one, inline_cache=text) for one, text in zip(built, inline, strict=True)
            ]
            outputs = finish(delivery.outputs)
            exported = await export_all(
                engine, outputs, delivery.tags, built, emit, sink, delivery.origin
            )
            cache = await cache_session.export(solves.solutions, targets, emit)
        except Exception as error:
            cause = unwrap(error)
            is_last = attempt + 1 == _MOST_LOSSES
            if not isinstance(cause, LayerGone) or is_last or not _repeatable(places, outputs):
                raise
            # Of a store that was there when all was solved, and is not while it is delivered.
            text = f"a layer is gone, its step runs: {cause.message}"
            emit(BuildWarning(message=text, at_once=True))
            everywhere = cause.everywhere
            await asyncio.to_thread(engine.results.forget, cause.delta, everywhere=everywhere)
        else:
            return Delivered(exported=exported, built=built, cache=cache)
    raise AssertionError("the last try returns or raises")


def _repeatable(places: Sequence[Sink], outputs: Sequence[Output]) -> bool:
    """Return whether what was begun at *places* may be begun again."""
    return all(place.is_repeatable(output) for place in places for output in outputs)


async def keep_store(engine: Engine) -> None:
    """Leave the store as settings want it after a build, which is not failed by that."""
    if engine.settings.durable:
        await asyncio.to_thread(engine.store.deltas.flush)
    try:
        await asyncio.to_thread(keep_mounts, engine.store, engine.settings)
        await asyncio.to_thread(keep_within, engine.store, engine.settings.limits)
    except PybuildError as error:
        engine.store.warn(f"cannot free space: {error.message}")
