"""Reads the caches that a build starts from; a fault of one fails no build [CCH-12]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.cache.records.imported import ImportedCache
from pybuild.engine.progress import internal_step
from pybuild.model.errors import PybuildError, UserError, unwrap
from pybuild.model.events import BuildWarning, Emit
from pybuild.remotecache.options import CacheFrom, in_doubt
from pybuild.remotecache.place import CacheSource
from pybuild.remotecache.places.directory import DirectoryCache
from pybuild.remotecache.places.registry import RegistryCache
from pybuild.remotecache.places.services import open_service
from pybuild.remotecache.reader import Memo, read_cache

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.image.cacheformat.config import CacheContents
    from pybuild.remotecache.mounts import CarriedMounts

PATIENCE_S = 30.0
"""A source that says nothing for so long is done without."""


def source_of(engine: Engine, cache_from: CacheFrom) -> CacheSource:
    """Return the source of an import, on this machine's side."""
    if cache_from.ref is not None:
        return RegistryCache(engine, cache_from.ref)
    if cache_from.service is not None:
        return open_service(engine, cache_from.service)
    return DirectoryCache(engine, cache_from.src, cache_from.tag, cache_from.digest)


async def import_caches(
    engine: Engine,
    sources: Sequence[tuple[CacheFrom, CacheSource]],
    memo: Memo,
    emit: Emit,
    mounts: CarriedMounts | None = None,
) -> list[ImportedCache]:
    """Read all sources at once; return those that could be read, in their order.

    Args:
        mounts: is offered the cache mounts that they have.
    """

    async def one(cache_from: CacheFrom, source: CacheSource) -> ImportedCache | None:
        name = str(cache_from)
        title = f"importing cache manifest from {name}"
        async with internal_step(title, emit, engine.clock) as step:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    contents = await read_cache(source, memo)
            except (PybuildError, TimeoutError, OSError, ExceptionGroup) as error:
                cause = unwrap(error)
                text = cause.message if isinstance(cause, PybuildError) else str(cause)
                text = text or f"no answer in {PATIENCE_S:.0f} s"
                step.say(f"not imported: {text}")
                if not (cache_from.may_be_empty and isinstance(cause, UserError)):
                    message = in_doubt(
                        f"cannot import the cache from {name}: {text}", cache_from.meant
                    )
                    emit(BuildWarning(message=message))
                return None
            step.say(f"{len(contents.results)} results in {len(contents.layers)} layers")
            if mounts is not None and cache_from.mounts:
                offers[name] = source, contents
            return ImportedCache(engine.store, name, contents, source.place)

    offers: dict[str, tuple[CacheSource, CacheContents]] = {}
    caches = await asyncio.gather(*(one(cache_from, source) for cache_from, source in sources))
    for name in dict.fromkeys(str(cache_from) for cache_from, _ in sources):
        if mounts is not None and name in offers:
            mounts.offer(name, *offers[name])
    return [cache for cache in caches if cache is not None]
