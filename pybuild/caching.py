"""What one build has to do with caches, from before it solves to after its outputs [CCH]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from pybuild.model.descriptor import Descriptor
from pybuild.model.events import Emit
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.cacheoptions import CacheTo
    from pybuild.cacheplaces import CacheTarget
    from pybuild.cacheresults import StepResult
    from pybuild.engine import Engine
    from pybuild.request import BuildRequest
    from pybuild.solver.solution import Solution


class Caching:
    """Where a build's cache goes to.

    Args:
        targets: all but those of type inline.
        inline: whether images carry their cache.
    """

    def __init__(
        self, engine: Engine, targets: Sequence[tuple[CacheTo, CacheTarget]], *, inline: bool
    ) -> None:
        self._engine = engine
        self._targets = targets
        self._inline = inline

    async def inline(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex]
    ) -> list[tuple[StepResult, ...] | None]:
        """Return, for each of *targets*, what its image is to say of the cache."""
        if not self._inline:
            return [None] * len(targets)
        return [tuple(await self._found(solutions, [target])) for target in targets]

    async def export(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex], emit: Emit
    ) -> Descriptor | None:
        """Write the cache to wherever it goes; return its manifest.

        Raises:
            PybuildError: it cannot be written, and that is not to be ignored.
        """
        if not self._targets:
            return None
        from pybuild.cacheexport import export_caches

        stacks = [
            solved.result.deltas
            for target in targets
            for solution in solutions
            if (solved := solution.get(target)) is not None and isinstance(solved.result, Snapshot)
        ]
        found = await self._found(solutions, targets)
        return await export_caches(self._engine, self._targets, found, stacks, emit)

    async def _found(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex]
    ) -> list[StepResult]:
        from pybuild.cacheresults import step_results

        return await asyncio.to_thread(step_results, self._engine.results, solutions, targets)


async def enter_caching(
    engine: Engine, request: BuildRequest, stack: AsyncExitStack, emit: Emit
) -> Caching:
    """Import what *request* names, to be found until *stack* is left.

    Nothing of it is loaded for a build that has to do with no cache.
    """
    if request.cache_from:
        from pybuild.cacheimport import import_caches, source_of

        sources = [(wanted, source_of(engine, wanted)) for wanted in request.cache_from]
        caches = await import_caches(engine, sources, emit)
        stack.enter_context(engine.results.importing(caches))
    if not request.cache_to:
        return Caching(engine, (), inline=False)
    from pybuild.cacheexport import target_of

    return Caching(
        engine,
        [
            (wanted, target_of(engine, wanted))
            for wanted in request.cache_to
            if wanted.type != "inline"
        ],
        inline=any(wanted.type == "inline" for wanted in request.cache_to),
    )
