"""Brings the layers of a build's results to one place and names them there [CCH-10].

The same writer serves a build from its first finished step to its end: what was sent is not sent
again, and what is on its way when the build ends is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pybuild.cache.records.layers import layer_facts
from pybuild.engine.progress import InternalStep
from pybuild.engine.repair import mended
from pybuild.executor.fetch import LayerGone
from pybuild.exporter.layermaker import LayerMaker, made_at
from pybuild.image.cacheformat.config import CacheContents, CachedLayer
from pybuild.image.cacheformat.mounts import CachedMount
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, unwrap
from pybuild.model.events import Event
from pybuild.remotecache.publisher import Publisher
from pybuild.remotecache.results import StepResult, is_origins

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.remotecache.options import CacheTo
    from pybuild.remotecache.place import CacheTarget
    from pybuild.remotecache.reader import Memo

_MEANWHILE = 2
_AT_ONCE = 8
_NICE = 10


class CacheWriter:
    """Writes to one place, for one build. Close it.

    It works behind the build's back, few layers at a time, until `hurry`.

    Attributes:
        mounts: the cache mounts to be named there, all of whose blobs are there.
    """

    def __init__(
        self,
        engine: Engine,
        cache_to: CacheTo,
        target: CacheTarget,
        memo: Memo,
        step: InternalStep,
    ) -> None:
        self.cache_to = cache_to
        self.target = target
        self._engine = engine
        self._store = engine.store
        self._step = step
        self._maker = LayerMaker(
            engine, cache_to.compression, cache_to.level, force=cache_to.force_compression
        )
        self._maker.nice = _NICE
        self._places = asyncio.Semaphore(_MEANWHILE)
        self._layers: dict[str, asyncio.Task[CachedLayer | None]] = {}
        self._blobs: dict[Digest, asyncio.Lock] = {}
        self._there: set[Digest] = set()
        self._publisher = Publisher(engine, cache_to, target, memo)
        self.mounts: tuple[CachedMount, ...] = ()

    def hurry(self, step: InternalStep) -> None:
        """Use the whole machine from now on: somebody waits, and watches *step*."""
        self._step = step
        self._maker.nice = 0
        for _ in range(_AT_ONCE - _MEANWHILE):
            self._places.release()

    @property
    def failure(self) -> BaseException | None:
        """The reason why no layer has come there; None if one has, or is on its way."""
        tried = self._layers.values()
        if not tried or any(not task.done() or task.cancelled() for task in tried):
            return None
        errors = [task.exception() for task in tried]
        return errors[0] if None not in errors else None

    def send(self, delta: str) -> asyncio.Task[CachedLayer | None]:
        """Begin to bring a layer there; a layer that failed is tried again.

        The task returns None if the layer cannot be had any more, from wherever it came.
        """
        task = self._layers.get(delta)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._layers[delta] = asyncio.create_task(self._bring(delta))
        return task

    async def send_all(self, results: Iterable[StepResult]) -> None:
        """Bring all layers of these results there.

        Raises:
            PybuildError: one cannot be; the others are on their way.
        """
        await asyncio.gather(*(self.send(delta) for delta in _deltas(results)))

    def arrived(self, results: Iterable[StepResult]) -> dict[Digest, int]:
        """Return the keys of results that `publish` names in full now, with the last layer's size.

        A layer that cannot be had any more, from wherever it came, is not waited for.
        """
        sizes: dict[Digest, int] = {}
        for result in results:
            tasks = [self._layers.get(delta) for delta in result.deltas]
            layers = [task.result() for task in tasks if task is not None and _is_there(task)]
            if len(layers) == len(result.deltas):
                last = layers[-1] if layers else None
                sizes[result.key] = 0 if last is None or last.origin else last.blob.size
        return sizes

    async def publish(self, results: Sequence[StepResult]) -> Descriptor | None:
        """Name those of these results that are there; return the manifest, None if none is.

        Raises:
            PybuildError: it cannot be written.
        """
        contents = self._contents(results)
        if not (contents.carried or contents.mounts):
            return None
        return await self._publisher.publish(contents, self._step)

    async def confirm(self, results: Sequence[StepResult]) -> None:
        """See that these results stay named, whatever others write; for the end of a build."""
        await self._publisher.confirm(self._contents(results), self._step)

    async def collect(self) -> None:
        """Delete objects that nobody needs any more, if this build may have left some."""
        if not self.cache_to.merge or not self._publisher.has_written:
            return
        try:
            deleted = await self.target.collect(self.cache_to.retention.max_age_s)
        except (PybuildError, OSError) as error:
            self._step.say(f"nothing old was deleted: {error}")
        else:
            if deleted:
                self._step.say(f"deleted {deleted} old objects")

    async def close(self) -> None:
        """Stop all work."""
        for task in self._layers.values():
            task.cancel()
        await asyncio.gather(*self._layers.values(), return_exceptions=True)

    def _contents(self, results: Sequence[StepResult]) -> CacheContents:
        layers: dict[str, CachedLayer] = {}
        for delta in _deltas(results):
            task = self._layers.get(delta)
            if task is None or not _is_there(task):
                continue
            layer = task.result()
            if layer is not None:
                layers[delta] = layer
        named = [
            result
            if all(delta in layers for delta in result.deltas)
            else replace(result, deltas=())
            for result in results
        ]
        return CacheContents(
            {layer.diff_id: layer for layer in layers.values()},
            tuple(
                result.cached([layers[delta].diff_id for delta in result.deltas])
                for result in named
                if result.aliases or any(not layers[delta].origin for delta in result.deltas)
            ),
            self.mounts,
        )

    async def _bring(self, delta: str) -> CachedLayer | None:
        async with self._places:
            try:
                return await mended(partial(self._bring_whole, delta), self._store.blobs, _quiet)
            except LayerGone as error:
                self._step.say(f"left out: {error.message}")
                return None

    async def _bring_whole(self, delta: str) -> CachedLayer:
        layer = await self._describe(delta)
        if not layer.origin:
            await self._put(layer.blob, delta)
        return layer

    async def _describe(self, delta: str) -> CachedLayer:
        """Describe a layer; made if it is ours, fetched by nobody if it is not."""
        facts = await asyncio.to_thread(layer_facts, self._store.records, delta)
        origin = await asyncio.to_thread(is_origins, self._store, delta)
        diff_id, blob = (facts.diff_id, facts.descriptor) if facts else (None, None)
        takes = origin or not self.cache_to.force_compression
        if diff_id is None or blob is None or not takes:
            diff_id, blob = await self._maker.make(delta)
        created = await asyncio.to_thread(made_at, self._store, delta)
        plain = Descriptor(blob.media_type, blob.digest, blob.size)
        return CachedLayer(diff_id=diff_id, blob=plain, created=created, origin=origin)

    async def _put(self, blob: Descriptor, delta: str) -> None:
        async with self._blobs.setdefault(blob.digest, asyncio.Lock()):
            if blob.digest in self._there and not self._engine.images.damaged:
                return  # what was there may have been read since, and found to be damaged
            if await self.target.has(blob):
                self._step.transfer(blob.digest, blob.size, blob.size, done=True)
            else:
                if not self._store.blobs.holds(blob):
                    await self._engine.images.fetch(delta, _quiet)
                await self.target.put(blob, self._step)
            self._there.add(blob.digest)


def _deltas(results: Iterable[StepResult]) -> list[str]:
    return sorted({delta for result in results for delta in result.deltas})


def _is_there(task: asyncio.Task[CachedLayer | None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _quiet(_event: Event) -> None:
    """Drop an event: fetching a layer for an export is part of the export."""


def export_error(error: BaseException) -> BaseException:
    """Return the error to show for an error of writing: a directory may be full, or not ours."""
    cause = unwrap(error)
    if not isinstance(cause, OSError) or cause.strerror is None:
        return cause
    place = f"{cause.filename}: " if cause.filename else ""
    return EnvironmentFault(f"cannot write the cache: {place}{cause.strerror.lower()}")
