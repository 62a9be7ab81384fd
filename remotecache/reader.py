"""Reads the cache at a place, in any form that it has there [CCH-11, CCH-12]."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.image.cacheformat.config import (
    CACHE_CONFIG,
    MAX_BYTES,
    CacheContents,
    CachedLayer,
    CachedResult,
)
from pybuild.image.cacheformat.merge import united
from pybuild.image.cacheformat.read import read_config, read_inline
from pybuild.image.manifest import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Manifest,
    parse_config,
    parse_manifest,
)
from pybuild.model.descriptor import MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault

if TYPE_CHECKING:
    from pybuild.remotecache.place import CacheSource

_MOST_PLATFORMS = 64


Memo = dict[Digest, CacheContents]
"""The contents read in this build, by their root's digest: many a place is read and written."""


async def read_cache(
    source: CacheSource, memo: Memo, root: Descriptor | None = None
) -> CacheContents:
    """Return all that a source has, be it a cache or images that carry one.

    Args:
        root: the cache's root, where that is known.

    Raises:
        PybuildError: nothing is there, it carries no cache, or it is broken.
    """
    if root is not None and root.digest in memo:
        return memo[root.digest]
    if root is None:
        root, data = await source.root()
    else:
        data = await source.read(root, MAX_MANIFEST_BYTES)
    memo[root.digest] = contents = await _read_below(source, root, data)
    return contents


async def _read_below(source: CacheSource, root: Descriptor, data: bytes) -> CacheContents:
    if root.media_type == CACHE_CONFIG:
        return read_config(data)
    document = parse_manifest(data, root.media_type)
    if isinstance(document, Manifest):
        if document.config.media_type == CACHE_CONFIG:
            return await _read(source, document.config, document.layers)
        carried = [await _inline(source, document)]
    else:
        entries = document.manifests
        config = next((e for e in entries if e.media_type == CACHE_CONFIG), None)
        if config is not None:
            return await _read(source, config, entries)
        images = [e for e in entries if e.media_type in MANIFEST_TYPES and _is_image(e)]
        if len(images) > _MOST_PLATFORMS:
            raise EnvironmentFault(f"an index of {len(images)} images is too large for a cache")
        carried = await asyncio.gather(*(_of_image(source, entry) for entry in images))
    inline = [contents for contents in carried if contents is not None]
    if not inline:
        raise EnvironmentFault("it carries no cache")
    return united(inline)


async def _read(
    source: CacheSource, config: Descriptor, layers: Iterable[Descriptor]
) -> CacheContents:
    contents = read_config(await source.read(config, MAX_BYTES))
    return _carried(contents, {layer.digest: layer for layer in layers})


def _carried(contents: CacheContents, blobs: dict[Digest, Descriptor]) -> CacheContents:
    """Leave out results whose layers are not there; the manifest lists the uploaded ones."""
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
    mounts = (mount for mount in contents.mounts if all(one.digest in blobs for one in mount.blobs))
    return CacheContents(layers, tuple(results), tuple(mounts))


def _is_image(entry: Descriptor) -> bool:
    return entry.platform is None or entry.platform.os != "unknown"


async def _of_image(source: CacheSource, entry: Descriptor) -> CacheContents | None:
    data = await source.read(entry, MAX_MANIFEST_BYTES)
    document = parse_manifest(data, entry.media_type)
    return await _inline(source, document) if isinstance(document, Manifest) else None


async def _inline(source: CacheSource, manifest: Manifest) -> CacheContents | None:
    return read_inline(manifest, parse_config(await source.read(manifest.config, MAX_CONFIG_BYTES)))
