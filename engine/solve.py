"""Solving that survives a cache whose layers are gone: what cannot be had is made again [CCH-12]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.cache.records.imported import is_link
from pybuild.cache.records.layers import layer_facts
from pybuild.executor.fetch import LayerGone
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import BuildWarning, Emit, Event, VertexFailed
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Snapshot
from pybuild.solver.drive import OnMiss, goes_on
from pybuild.solver.runner import Runner
from pybuild.solver.solution import Progress, Solution

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

_PATIENCE = 4
"""So many layers may turn out to be gone, one by one; then their whole source is done without."""
_MOST_TRIES = 32


async def solve(
    engine: Engine,
    targets: Sequence[Vertex],
    runner: Runner,
    emit: Emit,
    *,
    whole: bool,
    progress: Progress | None = None,
    missed: OnMiss = goes_on,
) -> Solution:
    """Make *targets*, as `Solver.solve` does.

    A stored result may name a layer of somebody's cache that is there no more. When one is missed,
    no result that names it is offered again, and all is solved once more: what ran meanwhile is
    found, and the step that made the layer runs.

    Args:
        whole: the targets' layers are wanted: those of caches are fetched here.
        missed: called with each vertex that is about to run.
    """
    for attempt in range(_MOST_TRIES):
        failures: list[Event] = []

        def hold(event: Event, failures: list[Event] = failures) -> None:
            if isinstance(event, VertexFailed) and not event.cancelled:
                failures.append(event)
            else:
                emit(event)

        try:
            solution = await engine.solver.solve(targets, runner, hold, progress, missed=missed)
            await _bring(engine, solution, emit, whole=whole)
        except Exception as error:
            cause = unwrap(error)
            if not isinstance(cause, LayerGone) or attempt + 1 == _MOST_TRIES:
                for event in failures:
                    emit(event)
                raise
            if not is_link([cause.delta]):
                text = f"a cached layer is gone, its step runs: {cause.message}"
                emit(BuildWarning(message=text))
            everywhere = cause.everywhere or attempt >= _PATIENCE
            await asyncio.to_thread(engine.results.forget, cause.delta, everywhere=everywhere)
        else:
            return solution
    raise AssertionError("the last try returns or raises")


async def _bring(engine: Engine, solution: Solution, emit: Emit, *, whole: bool) -> None:
    """Fetch the targets' layers that come from caches.

    Raises:
        LayerGone: one cannot be had.
    """
    deltas: set[str] = set()
    for solved in solution.targets:
        if isinstance(solved.result, Snapshot):
            deltas |= set(solved.result.deltas)
    for delta in sorted(deltas):
        if is_link([delta]):
            raise LayerGone(delta, f"the cache has no layers of {delta}")
    if not whole:
        return
    fetched, lent = await asyncio.to_thread(_absent_layers, engine, deltas)
    for delta in lent:
        if engine.images.peers is None or not engine.images.peers.have(delta):
            raise LayerGone(delta, f"no store that can be reached has {delta}")
    try:
        async with asyncio.TaskGroup() as group:
            for delta in fetched:
                group.create_task(engine.images.fetch(delta, emit))
    except BaseExceptionGroup as several:
        mendable = several.subgroup(LayerGone) or several.subgroup(PybuildError) or several
        raise unwrap_group(mendable) from None


def _absent_layers(engine: Engine, deltas: set[str]) -> tuple[list[str], list[str]]:
    """Return the absent deltas that caches have, and those that other stores made."""
    store = engine.store
    fetched: list[str] = []
    lent: list[str] = []
    for delta in sorted(deltas):
        facts = None if store.deltas.has(delta) else layer_facts(store.records, delta)
        if facts is not None and facts.is_lent:
            lent.append(delta)
        elif facts is not None and facts.cache:
            fetched.append(delta)
    return fetched, lent


def unwrap_group(error: BaseException) -> BaseException:
    """Return the first failure of several."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]
