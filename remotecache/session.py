"""What one build has to do with caches, from before it solves to after its outputs [CCH]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from pybuild.model.descriptor import Descriptor
from pybuild.model.events import Emit
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.cache.records.imported import ImportedCache
    from pybuild.engine.engine import Engine
    from pybuild.exporter.built import InlineCache
    from pybuild.remotecache.carrier import Carrier
    from pybuild.remotecache.options import CacheFrom, CacheTo
    from pybuild.remotecache.place import CacheTarget
    from pybuild.remotecache.reader import Memo
    from pybuild.remotecache.results import StepResult
    from pybuild.remotecache.writer import CacheWriter
    from pybuild.solver.solution import Progress, Solution


class Caching:
    """Where a build's cache goes to.

    Args:
        targets: all but those of type inline.
        inline: whether images carry their cache.
        memo: what was imported.
        imports: the caches that are looked into.
    """

    def __init__(
        self,
        engine: Engine,
        targets: Sequence[tuple[CacheTo, CacheTarget]],
        *,
        inline: bool,
        memo: Memo | None = None,
        imports: Sequence[ImportedCache] = (),
    ) -> None:
        self.imports = imports
        self._engine = engine
        self._inline = inline
        self._writers: list[CacheWriter] = []
        self._carrier: Carrier | None = None
        self._is_exported = False
        if targets:
            from pybuild.remotecache.carrier import Carrier
            from pybuild.remotecache.export import writer_of

            memo = {} if memo is None else memo
            self._writers = [writer_of(engine, wanted, target, memo) for wanted, target in targets]
            early = [one for one in self._writers if one.wanted.everything and one.target.shared]
            self._carrier = Carrier(engine, early) if early else None

    def follow(self, targets: Sequence[Vertex]) -> Progress | None:
        """Return what is to be told while *targets* are solved; None where nobody wants to know."""
        return None if self._carrier is None else self._carrier.follow(targets)

    def leaving(self, emit: Emit) -> Callable[..., Awaitable[None]]:
        """Return what an `AsyncExitStack` is to call when the build has ended, as it may."""

        async def leave(_kind: object, error: BaseException | None, _trace: object) -> None:
            await self._leave(emit, error)

        return leave

    async def _leave(self, emit: Emit, error: BaseException | None) -> None:
        """Save what was made, should the build not have come to its end."""
        try:
            if self._carrier is not None and not self._is_exported:
                interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
                await self._carrier.flush(emit, interrupted=interrupted)
        finally:
            for writer in self._writers:
                await writer.close()

    async def inline(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex]
    ) -> list[InlineCache | None]:
        """Return, for each of *targets*, the text of the cache that its image carries."""
        if not self._inline:
            return [None] * len(targets)
        from pybuild.remotecache.results import inline_text

        return [partial(inline_text, await self._found(solutions, [target])) for target in targets]

    async def export(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex], emit: Emit
    ) -> Descriptor | None:
        """Write the cache to wherever it goes; return its manifest.

        Raises:
            PybuildError: it cannot be written, and that is not to be ignored.
        """
        if not self._writers:
            return None
        from pybuild.remotecache.export import export_caches

        if self._carrier is not None:
            await self._carrier.stop()
        stacks = [
            solved.result.deltas
            for target in targets
            for solution in solutions
            if (solved := solution.get(target)) is not None and isinstance(solved.result, Snapshot)
        ]
        found = await self._found(solutions, targets)
        self._is_exported = True  # or why not is told by then
        try:
            return await export_caches(self._engine, self._writers, found, stacks, emit)
        finally:
            if self._carrier is not None:
                self._carrier.end()

    async def _found(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex]
    ) -> list[StepResult]:
        from pybuild.remotecache.results import step_results

        return await asyncio.to_thread(step_results, self._engine.results, solutions, targets)


async def enter_caching(
    engine: Engine,
    cache_from: Sequence[CacheFrom],
    cache_to: Sequence[CacheTo],
    stack: AsyncExitStack,
    emit: Emit,
) -> Caching:
    """Import *cache_from*, to be found until *stack* is left; so is the whole.

    Nothing of it is loaded for a build that has to do with no cache.
    """
    memo: Memo = {}
    caches: Sequence[ImportedCache] = ()
    if cache_from:
        from pybuild.remotecache.imports import import_caches, source_of

        sources = [(wanted, source_of(engine, wanted)) for wanted in cache_from]
        caches = await import_caches(engine, sources, memo, emit)
        stack.enter_context(engine.results.importing(caches))
    if not cache_to:
        return Caching(engine, (), inline=False, imports=caches)
    from pybuild.remotecache.export import usable_targets

    caching = Caching(
        engine,
        await usable_targets(engine, cache_to, emit),
        inline=any(wanted.type == "inline" for wanted in cache_to),
        memo=memo,
        imports=caches,
    )
    stack.push_async_exit(caching.leaving(emit))
    return caching
