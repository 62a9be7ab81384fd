"""Makes the layers of deltas: blobs as registries have them, once for each compression [OUT-11]."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.cache.records.layers import keep_delta_made_into, keep_layer, layer_facts
from pybuild.executor.fetch import LayerGone
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.image.layer.orders import BlobOrder
from pybuild.image.manifest import is_foreign, layer_media_type, oci_layer_type
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.layerfacts import LayerFacts, WrittenLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.cache.store import Store
    from pybuild.engine.engine import Engine
    from pybuild.executor.files import export
    from pybuild.executor.workers.job import Job
    from pybuild.exporter.earlypush import PushAhead
    from pybuild.image.layer import layertar, recompress
    from pybuild.image.layer.orders import LayerBlob
else:
    export = WorkerModule("pybuild.executor.files.export")
    layertar = WorkerModule("pybuild.image.layer.layertar")
    recompress = WorkerModule("pybuild.image.layer.recompress")

_ESTARGZ = "estargz"
_MOST_LAYER_BYTES = 1 << 40
# Of one image. Each compresses on all processors; more at once would only hold more memory.
_AT_ONCE = 4


class LayerMaker:
    """Makes layers in one compression.

    Args:
        force: pulled layers in another compression are made anew in this one [OUT-10].
        ahead: sends the layers somewhere while they are made.

    Attributes:
        nice: the priority of the work, as ``nice`` has it; above 0 others of this machine go first.
    """

    def __init__(
        self,
        engine: Engine,
        compression: str,
        level: int | None,
        *,
        force: bool = False,
        ahead: PushAhead | None = None,
    ) -> None:
        self._force = force
        self._ahead = ahead
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.nice = 0
        self.kind = f"{compression}-{level}"
        self._engine = engine
        self._store = engine.store
        self._compression = compression
        self._level = level

    async def make(self, delta: str) -> tuple[Digest, Descriptor]:
        """The diffID and blob of one delta; made if there is none in our compression."""
        store = self._store
        facts = await asyncio.to_thread(layer_facts, store.records, delta)
        if facts is not None and facts.is_lent:
            return await self._lent(delta, facts)
        if facts is not None and facts.descriptor is not None and facts.diff_id is not None:
            # A pulled layer keeps its bytes, whatever the compression: its digest is untouched.
            try:
                await self._engine.images.fetch(delta, lambda event: None)
            except LayerGone:
                if not store.deltas.has(delta):
                    raise
                return await self._made(delta, facts)  # its cache is gone, its files are not
            diff_id, pulled = facts.diff_id, facts.descriptor
            if self._force and self._is_other(pulled):
                return await self._recompressed(delta, facts, diff_id, pulled)
            return diff_id, pulled
        return await self._made(delta, facts or LayerFacts())

    async def _lent(self, delta: str, facts: LayerFacts) -> tuple[Digest, Descriptor]:
        """The layer of another store's delta, made there: from the files themselves, as it would be here."""
        known = await self._known(facts)
        if known is not None:
            return known
        try:
            made = await self._engine.images.lent(delta, self._compression, self._level)
            await self._engine.images.borrow(delta, made[1], lambda event: None)
        except LayerGone:
            if not self._store.deltas.has(delta):
                raise
            return await self._made(delta, facts)
        await asyncio.to_thread(keep_layer, self._store.records, delta, self._noting(facts, *made))
        return made

    def _is_other(self, layer: Descriptor) -> bool:
        """Whether a layer is in another compression, and may be changed [IMG-5]."""
        kind = oci_layer_type(layer.media_type)
        if self._compression == _ESTARGZ:
            from pybuild.image.layer.estargz import TOC_DIGEST  # seldom wanted

            return TOC_DIGEST not in layer.annotations and not is_foreign(kind)
        return kind != layer_media_type(self._compression) and not is_foreign(kind)

    async def _recompressed(
        self, delta: str, facts: LayerFacts, diff_id: Digest, pulled: Descriptor
    ) -> tuple[Digest, Descriptor]:
        """The blob of a pulled layer in our compression, made from the one it came in."""
        known = await self._known(facts)
        if known is not None:
            return known
        path = self._store.blobs.path(pulled.digest)
        made = await self._blob(
            lambda order: job(recompress.recompress_job, path, diff_id, _MOST_LAYER_BYTES, order),
            is_published=facts.is_published,
        )
        records, noted = self._store.records, self._noting(facts, *made)
        await asyncio.to_thread(keep_layer, records, delta, noted)
        return made

    async def _known(self, facts: LayerFacts) -> tuple[Digest, Descriptor] | None:
        """The layer in our compression, if *facts* tell of one that is there."""
        made = facts.blobs.get(self.kind)
        diff_id = None if made is None else made.diff_id or facts.diff_id
        if made is None or diff_id is None:
            return None
        await asyncio.to_thread(self._store.lease.add, "blob", made.descriptor.digest)
        if not self._store.blobs.holds(made.descriptor):
            return None
        return diff_id, made.descriptor

    def _noting(self, facts: LayerFacts, diff_id: Digest, descriptor: Descriptor) -> LayerFacts:
        """*facts* with a layer that was made. The table in eStargz gives that a diffID of its own."""
        if self._compression == _ESTARGZ:
            own = WrittenLayer(descriptor, diff_id)
            return replace(facts, blobs={**facts.blobs, self.kind: own})
        made = WrittenLayer(descriptor)
        return replace(facts, diff_id=diff_id, blobs={**facts.blobs, self.kind: made})

    async def _made(self, delta: str, facts: LayerFacts) -> tuple[Digest, Descriptor]:
        """The layer in our compression, written if it was not."""
        store = self._store
        known = await self._known(facts)
        if known is not None:
            return known
        diff_id, descriptor = await self.write(delta, None)
        noted = self._noting(facts, diff_id, descriptor)
        await asyncio.to_thread(keep_layer, store.records, delta, noted)
        if self._compression != _ESTARGZ:  # whose tree has its table, too
            await asyncio.to_thread(keep_delta_made_into, store.records, diff_id, delta)
        return diff_id, descriptor

    async def write(self, delta: str, clamp: int | None) -> tuple[Digest, Descriptor]:
        """Write a delta's layer as a blob; later times become *clamp*."""
        directories = self._store.deltas.directories(delta)
        if len(directories) > 1:
            tree = await self._engine.export_tree(directories)
            return await self._blob(
                lambda order: job(export.layer_job, tree, order, clamp_mtime=clamp), directories
            )
        return await self.of_directory(directories[0], clamp)

    async def of_directory(self, path: str, clamp: int | None = None) -> tuple[Digest, Descriptor]:
        """Write the layer of the changes in a directory, which nobody changes meanwhile."""
        userxattr = await self._engine.userxattr()
        return await self._blob(
            lambda order: job(
                layertar.layer_job, path, order, userxattr=userxattr, clamp_mtime=clamp
            ),
            [path],
        )

    async def _blob(
        self,
        work: Callable[[BlobOrder], Job[LayerBlob]],
        roots: Sequence[str] = (),
        *,
        is_published: bool = False,
    ) -> tuple[Digest, Descriptor]:
        """Have a worker write a blob in our compression, and keep it; returns its diffID too.

        Args:
            roots: the directories of its delta, to be searched before it is sent.
            is_published: others have made it, and a registry has it.
        """
        store = self._store
        out = store.scratch("layer")
        order = BlobOrder(out, self._compression, self._level, self.nice)
        ahead = self._ahead
        search = ahead.search(roots) if ahead is not None and roots else None
        is_clear = search is not None or is_published or (ahead is not None and not ahead.searches)
        follower = ahead.follow(out, search) if ahead is not None and is_clear else None
        on_progress = None if follower is None else follower.grown
        try:
            async with self._places:
                blob = await self._engine.workers.call(
                    work(order), on_progress=on_progress, writes=out
                )
            digest, size = Digest.parse(blob.digest), blob.size
            media_type = layer_media_type(self._compression)
            descriptor = Descriptor(media_type, digest, size, blob.annotations)
            leaks = None if search is None else await search
            if follower is not None:
                follower.complete(descriptor)
            await asyncio.to_thread(store.blobs.adopt, out, digest, size)
            if ahead is not None and leaks is not None:
                from pybuild.exporter.pushguard import keep_verdict

                await asyncio.to_thread(keep_verdict, store, digest, leaks, ahead.values)
        except BaseException:
            store.discard(out)
            raise
        return Digest.parse(blob.diff_id), descriptor


def made_at(store: Store, delta: str) -> float:
    """The time at which a delta was made, here or elsewhere, in seconds since the epoch."""
    facts = layer_facts(store.records, delta)
    if facts is not None and facts.created is not None:
        return facts.created
    return float(store.deltas.meta(delta).get("created", 0.0))
