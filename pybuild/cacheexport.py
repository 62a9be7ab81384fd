"""Writes the cache of a build to where others find it [CCH-10, CCH-11]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.cache.imported import LAYER
from pybuild.cacheplaces import CacheTarget, DirectoryCache, RegistryCache
from pybuild.cacheresults import StepResult, is_origins, within
from pybuild.image.cacheconfig import CACHE_CONFIG, CacheContents, CachedLayer, write_config
from pybuild.image.manifest import build_index, build_manifest, docker_layer_type
from pybuild.internal import InternalStep, internal_step
from pybuild.layermaker import LayerMaker, made_at
from pybuild.model.descriptor import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.events import BuildWarning, Emit, Event
from pybuild.render import unwrap

if TYPE_CHECKING:
    from pybuild.cacheoptions import CacheTo
    from pybuild.engine import Engine

_AT_ONCE = 8


def target_of(engine: Engine, wanted: CacheTo) -> CacheTarget:
    """Return where an export is written, on this machine's side."""
    if wanted.ref is not None:
        return RegistryCache(engine, wanted.ref)
    return DirectoryCache(engine, wanted.dest, wanted.tag)


async def export_caches(
    engine: Engine,
    targets: Sequence[tuple[CacheTo, CacheTarget]],
    found: Sequence[StepResult],
    stacks: Sequence[Sequence[str]],
    emit: Emit,
) -> Descriptor | None:
    """Write the cache to every target; return a manifest that others name, else the last one.

    Args:
        found: what is stored of the build's steps.
        stacks: the deltas of its results, for ``mode=min``.

    Raises:
        PybuildError: it cannot be written, and that is not to be ignored.
    """
    made: Descriptor | None = None
    named = False
    for wanted, target in targets:
        try:
            async with internal_step(target.title, emit, engine.clock) as step:
                kept = found if wanted.everything else within(found, stacks)
                written = await _Export(engine, wanted, target, step).run(kept)
                if written is not None and not named:
                    made, named = written, target.is_named_elsewhere
        except Exception as error:
            cause = unwrap(error)
            if not wanted.ignore_error or not isinstance(cause, PybuildError):
                raise
            emit(BuildWarning(message=f"the cache was not exported: {cause.message}"))
    return made


class _Export:
    """One export at work."""

    def __init__(
        self, engine: Engine, wanted: CacheTo, target: CacheTarget, step: InternalStep
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._wanted = wanted
        self._target = target
        self._step = step
        self._maker = LayerMaker(engine, wanted.compression, wanted.level)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def run(self, found: Sequence[StepResult]) -> Descriptor | None:
        deltas = sorted({delta for one in found for delta in one.deltas})
        async with asyncio.TaskGroup() as group:
            tasks = {delta: group.create_task(self._layer(delta)) for delta in deltas}
        layers = {delta: task.result() for delta, task in tasks.items()}
        contents = CacheContents(
            {layer.diff_id: layer for layer in layers.values()},
            tuple(
                one.cached([layers[delta].diff_id for delta in one.deltas])
                for one in found
                if one.aliases or any(not layers[delta].origin for delta in one.deltas)
            ),
        )
        self._step.transfer("preparing build cache for export", 0, 0, done=True)
        carried = contents.carried
        if not carried:
            self._step.say("skipping cache export for empty result")
            return None
        by_digest = {layers[delta].blob.digest: delta for delta in deltas}
        async with asyncio.TaskGroup() as group:
            for layer in {layer.blob.digest: layer for layer in carried}.values():
                group.create_task(self._put(layer.blob, by_digest[layer.blob.digest]))
        return await self._finish(contents)

    async def _layer(self, delta: str) -> CachedLayer:
        """Describe a layer; made if it is ours, fetched by nobody if it is not."""
        async with self._places:
            facts = await asyncio.to_thread(self._store.records.get, LAYER, delta) or {}
            if "descriptor" in facts:
                diff_id = Digest.parse(facts["diff_id"])
                blob = Descriptor.from_json(facts["descriptor"])
            else:
                diff_id, blob = await self._maker.make(delta)
            origin = await asyncio.to_thread(is_origins, self._store, delta)
            created = await asyncio.to_thread(made_at, self._store, delta)
        plain = Descriptor(blob.media_type, blob.digest, blob.size)
        return CachedLayer(diff_id=diff_id, blob=plain, created=created, origin=origin)

    async def _put(self, blob: Descriptor, delta: str) -> None:
        async with self._places:
            if await self._target.has(blob):
                self._step.transfer(blob.digest, blob.size, blob.size, done=True)
                return
            if not self._store.blobs.holds(blob):
                await self._engine.images.fetch(delta, _quiet)
            await self._target.put(blob, self._step)

    async def _finish(self, contents: CacheContents) -> Descriptor:
        wanted, blobs = self._wanted, self._store.blobs
        data = write_config(contents)
        digest = await asyncio.to_thread(blobs.put, data)
        config = Descriptor(CACHE_CONFIG, digest, len(data))
        self._step.say(f"writing config {digest}")
        await self._target.put(config, self._step)
        layers = list({layer.blob.digest: layer.blob for layer in contents.carried}.values())
        if wanted.image_manifest:
            media_type, kind = OCI_MANIFEST, "cache image manifest"
            data = build_manifest(config, layers, media_type)
        else:
            media_type, kind = OCI_INDEX if wanted.oci_types else DOCKER_INDEX, "cache manifest"
            if not wanted.oci_types:
                layers = [
                    Descriptor(docker_layer_type(one.media_type), one.digest, one.size)
                    for one in layers
                ]
            data = build_index([*layers, config], media_type)
        digest = await asyncio.to_thread(blobs.put, data)
        made = Descriptor(media_type, digest, len(data))
        self._step.say(f"writing {kind} {digest}")
        await self._target.finish(made, data)
        return made


def _quiet(_event: Event) -> None:
    """Fetching what is to be exported is part of the export."""
