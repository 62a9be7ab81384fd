"""Names a cache's results, so that others find them: the small documents over the layers [CCH-11].

Many may write to one place at once. Each reads the results named there, adds its own and writes the
whole, unless somebody else wrote in between: then it reads again. So nobody's results are lost,
and every document that is there at any time is complete by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from pybuild.engine.progress import InternalStep
from pybuild.image.archive import REF_NAME
from pybuild.image.cacheformat.config import CACHE_CONFIG, CacheContents, write_config
from pybuild.image.cacheformat.merge import merged
from pybuild.image.manifest import build_index, build_manifest, docker_layer_type
from pybuild.model.descriptor import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.errors import EnvironmentFault, PybuildError
from pybuild.remotecache.place import ANY_CONTENT, is_passing
from pybuild.remotecache.reader import Memo, read_cache

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.remotecache.options import CacheTo
    from pybuild.remotecache.place import CacheTarget

_TRIES = 20
_MOST_WAIT_S = 1.0
_CONFIRMATIONS = 5
_LEAST_PAUSE_S = 0.1


class Publisher:
    """Writes the documents of one place.

    Attributes:
        has_written: whether a new document was written.
    """

    def __init__(self, engine: Engine, cache_to: CacheTo, target: CacheTarget, memo: Memo) -> None:
        self._engine = engine
        self._memo = memo
        self._cache_to = cache_to
        self._target = target
        self._merges = cache_to.merge and target.shared is not None
        self._published = CacheContents()
        self._named: Descriptor | None = None
        self.has_written = False
        self._took_s = 0.0

    async def publish(self, own_contents: CacheContents, step: InternalStep) -> Descriptor:
        """Name *own_contents*, whose layers are there, beside the results that others have named.

        Raises:
            PybuildError: it cannot be.
        """
        for attempt in range(_TRIES):
            await self._look()
            made = await self._write(own_contents, step)
            if made is not None:
                return made
            await asyncio.sleep(random.uniform(0, min(_MOST_WAIT_S, 0.05 * 2**attempt)))
        raise EnvironmentFault("others write to this cache all the time", hints=["use more tags"])

    async def confirm(self, own_contents: CacheContents, step: InternalStep) -> None:
        """See that *own_contents* stays named where two writers can miss each other; once, at the end.

        A writer that looked before we wrote, and writes after it, does so within a pause that is
        measured by the time of our own write.

        Raises:
            PybuildError: as `publish`.
        """
        if not self._merges or not self.has_written or self._target.is_exact:
            return
        for _ in range(_CONFIRMATIONS):
            before = self._named
            await asyncio.sleep(max(_LEAST_PAUSE_S, 2 * self._took_s) * random.uniform(1, 1.5))
            if before == await self.publish(own_contents, step):
                return

    async def _look(self) -> None:
        """Read the cache that is named there, if we do not know it already.

        A broken one, or one that is no cache, is written over; one that just cannot be read at
        present is not.
        """
        source = self._target.shared
        if not self._merges or source is None:
            return
        named = await self._target.named()
        if named is None:
            self._published = CacheContents()
        elif self._named is None or named.digest != self._named.digest:
            try:
                self._published = await read_cache(source, self._memo, named)
            except PybuildError as error:
                if is_passing(error):
                    raise
                self._published = CacheContents()
        self._named = named

    async def _write(self, own_contents: CacheContents, step: InternalStep) -> Descriptor | None:
        """Write the documents to be named; None if somebody else has written since we looked."""
        contents = own_contents
        if self._cache_to.merge:
            now = self._engine.clock.now()
            kept = self._cache_to.retention
            contents = await asyncio.to_thread(merged, own_contents, self._published, kept, now)
        data = await asyncio.to_thread(write_config, contents)
        config, data = await self._stored(CACHE_CONFIG, data)
        made, kind = config, "cache config"
        if self._target.has_manifests:
            media_type, kind, data = await asyncio.to_thread(self._document, config, contents)
            made, data = await self._stored(media_type, data)
        named = self._named
        if self._merges and named is not None and made.digest == named.digest:
            return made
        try:
            if made is not config:
                with step.doing(f"writing config {config.digest}"):
                    await self._target.put(config, step)
            expected = (None if named is None else named.digest) if self._merges else ANY_CONTENT
            began = time.monotonic()
            with step.doing(f"writing {kind} {made.digest}"):
                is_named = await self._target.finish(made, data, expected)
            self._took_s = time.monotonic() - began
            if not is_named:
                return None
        except PybuildError as error:
            # A registry that has lost a layer takes no document that names it: do without others'.
            if not self._published.results or getattr(error, "status", 0) not in range(400, 500):
                raise
            self._published = CacheContents()
            return await self._write(own_contents, step)
        self._named, self._published, self.has_written = made, contents, True
        return made

    async def _stored(self, media_type: str, data: bytes) -> tuple[Descriptor, bytes]:
        digest = await asyncio.to_thread(self._engine.store.blobs.put, data)
        return Descriptor(media_type, digest, len(data)), data

    def _document(self, config: Descriptor, contents: CacheContents) -> tuple[str, str, bytes]:
        cache_to = self._cache_to
        notes = {REF_NAME: cache_to.ref.tag or ""} if cache_to.ref else {}
        layers = list({layer.blob.digest: layer.blob for layer in contents.carried}.values())
        mounts = {blob.digest: blob for mount in contents.mounts for blob in mount.blobs}
        if cache_to.image_manifest:
            layers += mounts.values()
            data = build_manifest(config, layers, OCI_MANIFEST, annotations=notes)
            return OCI_MANIFEST, "cache image manifest", data
        media_type = OCI_INDEX if cache_to.oci_types else DOCKER_INDEX
        if not cache_to.oci_types:
            layers = [
                Descriptor(docker_layer_type(one.media_type), one.digest, one.size)
                for one in layers
            ]
            notes = {}
        data = build_index([*layers, *mounts.values(), config], media_type, annotations=notes)
        return media_type, "cache manifest", data
