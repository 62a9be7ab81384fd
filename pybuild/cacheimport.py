"""Reads the caches that a build starts from; what is wrong with one fails no build [CCH-12]."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.cache.imported import ImportedCache
from pybuild.cacheplaces import CacheSource, DirectoryCache, RegistryCache
from pybuild.image.cacheconfig import (
    CACHE_CONFIG,
    MAX_BYTES,
    CacheContents,
    CachedLayer,
    CachedResult,
)
from pybuild.image.cacheread import read_config, read_inline
from pybuild.image.manifest import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Manifest,
    parse_config,
    parse_manifest,
)
from pybuild.internal import internal_step
from pybuild.model.descriptor import MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.events import BuildWarning, Emit
from pybuild.render import unwrap

if TYPE_CHECKING:
    from pybuild.cacheoptions import CacheFrom
    from pybuild.engine import Engine

_MOST_PLATFORMS = 64
_PATIENCE_S = 60.0
"""A source that says nothing for so long is done without."""


def source_of(engine: Engine, wanted: CacheFrom) -> CacheSource:
    """Return where a source is read, on this machine's side."""
    if wanted.ref is not None:
        return RegistryCache(engine, wanted.ref)
    return DirectoryCache(engine, wanted.src, wanted.tag, wanted.digest)


async def import_caches(
    engine: Engine, sources: Sequence[tuple[CacheFrom, CacheSource]], emit: Emit
) -> list[ImportedCache]:
    """Read all sources at once; return those that could be read, in their order."""

    async def one(wanted: CacheFrom, source: CacheSource) -> ImportedCache | None:
        name = str(wanted)
        title = f"importing cache manifest from {name}"
        async with internal_step(title, emit, engine.clock) as step:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    contents = await read_cache(source)
            except (PybuildError, TimeoutError, OSError, ExceptionGroup) as error:
                cause = unwrap(error)
                text = cause.message if isinstance(cause, PybuildError) else str(cause)
                text = text or f"no answer in {_PATIENCE_S:.0f} s"
                step.say(f"not imported: {text}")
                if not (wanted.may_be_empty and isinstance(cause, UserError)):
                    emit(BuildWarning(message=f"cannot import the cache from {name}: {text}"))
                return None
            step.say(f"{len(contents.results)} results in {len(contents.layers)} layers")
            return ImportedCache(engine.store, name, contents, source.place)

    found = await asyncio.gather(*(one(wanted, source) for wanted, source in sources))
    return [cache for cache in found if cache is not None]


async def read_cache(source: CacheSource) -> CacheContents:
    """Return all that a source has, be it a cache or images that carry one.

    Raises:
        PybuildError: nothing is there, it carries no cache, or it is broken.
    """
    root, data = await source.root()
    document = parse_manifest(data, root.media_type)
    if isinstance(document, Manifest):
        if document.config.media_type == CACHE_CONFIG:
            return await _read(source, document.config, document.layers)
        found = [await _inline(source, document)]
    else:
        entries = document.manifests
        config = next((e for e in entries if e.media_type == CACHE_CONFIG), None)
        if config is not None:
            return await _read(source, config, entries)
        images = [e for e in entries if e.media_type in MANIFEST_TYPES and _is_image(e)]
        if len(images) > _MOST_PLATFORMS:
            raise EnvironmentFault(f"an index of {len(images)} images is too large for a cache")
        found = await asyncio.gather(*(_of_image(source, entry) for entry in images))
    inline = [contents for contents in found if contents is not None]
    if not inline:
        raise EnvironmentFault("it carries no cache")
    return _joined(inline)


async def _read(
    source: CacheSource, config: Descriptor, layers: Iterable[Descriptor]
) -> CacheContents:
    contents = read_config(await source.read(config, MAX_BYTES))
    return _carried(contents, {layer.digest: layer for layer in layers})


def _carried(contents: CacheContents, blobs: dict[Digest, Descriptor]) -> CacheContents:
    """Leave out results whose layers are not there; the manifest's word is what was uploaded."""
    layers: dict[Digest, CachedLayer] = {}
    for diff_id, layer in contents.layers.items():
        blob = blobs.get(layer.blob.digest)
        if blob is not None:
            blob = Descriptor(blob.media_type, blob.digest, blob.size)
            layers[diff_id] = replace(layer, blob=blob, origin="")
        elif layer.origin:
            layers[diff_id] = layer
    results: list[CachedResult] = []
    for result in contents.results:
        if all(diff_id in layers for diff_id in result.layers):
            results.append(result)
        elif result.aliases:
            results.append(replace(result, layers=()))
    return CacheContents(layers, tuple(results))


def _is_image(entry: Descriptor) -> bool:
    return entry.platform is None or entry.platform.os != "unknown"


async def _of_image(source: CacheSource, entry: Descriptor) -> CacheContents | None:
    data = await source.read(entry, MAX_MANIFEST_BYTES)
    document = parse_manifest(data, entry.media_type)
    return await _inline(source, document) if isinstance(document, Manifest) else None


async def _inline(source: CacheSource, manifest: Manifest) -> CacheContents | None:
    return read_inline(manifest, parse_config(await source.read(manifest.config, MAX_CONFIG_BYTES)))


def _joined(several: Sequence[CacheContents]) -> CacheContents:
    """Put the caches of several platforms together; a result wins over a mere link."""
    layers: dict[Digest, CachedLayer] = {}
    results: dict[Digest, CachedResult] = {}
    for contents in several:
        layers = {**contents.layers, **layers}
        for result in contents.results:
            known = results.get(result.key)
            if known is None or (result.layers and not known.layers):
                results[result.key] = result
    return CacheContents(layers, tuple(results.values()))
