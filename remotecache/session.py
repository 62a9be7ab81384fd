"""One build's caches, from before it solves to after its outputs [CCH]."""

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
    from pybuild.remotecache.mounts import CarriedMounts
    from pybuild.remotecache.options import CacheFrom, CacheTo
    from pybuild.remotecache.place import CacheTarget
    from pybuild.remotecache.reader import Memo
    from pybuild.remotecache.results import StepResult
    from pybuild.remotecache.writer import CacheWriter
    from pybuild.solver.solution import Progress, Solution


class CacheSession:
    """The caches of one build: those it has imported, and those it writes.

    Args:
        targets: all but those of type inline.
        inline: whether images carry their cache.
        memo: the contents of imported caches, by digest.
        imports: the imported caches.
        mounts: the build's cache mounts; None if no cache has a part in them.
    """

    def __init__(
        self,
        engine: Engine,
        targets: Sequence[tuple[CacheTo, CacheTarget]],
        *,
        inline: bool,
        memo: Memo | None = None,
        imports: Sequence[ImportedCache] = (),
        mounts: CarriedMounts | None = None,
    ) -> None:
        self.imports = imports
        self.mounts = mounts
        self._engine = engine
        self._inline = inline
        self._writers: list[CacheWriter] = []
        self._carrier: Carrier | None = None
        self._is_exported = False
        if targets:
            from pybuild.remotecache.carrier import Carrier
            from pybuild.remotecache.export import writer_of

            memo = {} if memo is None else memo
            self._writers = [
                writer_of(engine, cache_to, target, memo) for cache_to, target in targets
            ]
            early = [
                writer
                for writer in self._writers
                if writer.cache_to.everything and writer.target.shared
            ]
            self._carrier = Carrier(engine, early) if early else None

    def follow(self, targets: Sequence[Vertex]) -> Progress | None:
        """Return the progress listener for a solve of *targets*; None without a remote cache."""
        return None if self._carrier is None else self._carrier.follow(targets)

    def leaving(self, emit: Emit) -> Callable[..., Awaitable[None]]:
        """Return an `AsyncExitStack` callback that saves the cache of a build that ended early."""

        async def leave(_kind: object, error: BaseException | None, _trace: object) -> None:
            await self._leave(emit, error)

        return leave

    async def _leave(self, emit: Emit, error: BaseException | None) -> None:
        """Save the results so far, should the build not have come to its end."""
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

        return [
            partial(inline_text, await self._step_results(solutions, [target]))
            for target in targets
        ]

    async def export(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex], emit: Emit
    ) -> Descriptor | None:
        """Write the cache to all its targets; return its manifest.

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
        results = await self._step_results(solutions, targets)
        self._is_exported = True  # or the reason why not is shown by then
        try:
            return await export_caches(
                self._engine, self._writers, results, stacks, emit, self.mounts
            )
        finally:
            if self._carrier is not None:
                self._carrier.end()

    async def _step_results(
        self, solutions: Sequence[Solution], targets: Sequence[Vertex]
    ) -> list[StepResult]:
        from pybuild.remotecache.results import step_results

        return await asyncio.to_thread(step_results, self._engine.results, solutions, targets)


async def enter_cache_session(
    engine: Engine,
    cache_from: Sequence[CacheFrom],
    cache_to: Sequence[CacheTo],
    stack: AsyncExitStack,
    emit: Emit,
) -> CacheSession:
    """Import *cache_from*, and open the session; both last until *stack* is left.

    Nothing of it is loaded for a build without remote caches.
    """
    memo: Memo = {}
    caches: Sequence[ImportedCache] = ()
    mounts: CarriedMounts | None = None
    if cache_from or cache_to:
        from pybuild.remotecache.mounts import CarriedMounts

        mounts = CarriedMounts(engine)
    if cache_from:
        from pybuild.remotecache.imports import import_caches, source_of

        sources = [(option, source_of(engine, option)) for option in cache_from]
        caches = await import_caches(engine, sources, memo, emit, mounts)
        stack.enter_context(engine.results.importing(caches))
    cache_session = await open_cache_session(
        engine, cache_to, emit, memo=memo, imports=caches, mounts=mounts
    )
    stack.push_async_exit(cache_session.leaving(emit))
    return cache_session


async def open_cache_session(
    engine: Engine,
    cache_to: Sequence[CacheTo],
    emit: Emit,
    *,
    memo: Memo,
    imports: Sequence[ImportedCache] = (),
    find: Callable[[CacheTo], CacheTarget] | None = None,
    mounts: CarriedMounts | None = None,
) -> CacheSession:
    """Return a session that writes to *cache_to*, whose places have been looked at.

    Args:
        find: returns the target of an export; those of this machine by default.

    Raises:
        PybuildError: a place cannot be written, and that is not to be ignored.
    """
    if not cache_to:
        return CacheSession(engine, (), inline=False, memo=memo, imports=imports, mounts=mounts)
    from pybuild.remotecache.export import target_of, usable_targets

    find = find or partial(target_of, engine)
    return CacheSession(
        engine,
        await usable_targets(cache_to, find, emit),
        inline=any(option.type == "inline" for option in cache_to),
        memo=memo,
        imports=imports,
        mounts=mounts,
    )
