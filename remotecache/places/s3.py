"""A cache in S3, where BuildKit's own has its objects [CCH-5].

A name's object is the cache's config itself; the layers lie beside it by their digests, for all
names of the prefix. Objects that are written again are new to whoever deletes old ones, be it
`collect`, another builder or a rule of the bucket.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from pybuild.engine.progress import InternalStep
from pybuild.image.cacheformat.config import CACHE_CONFIG, MAX_BYTES
from pybuild.image.cacheformat.read import named_blobs
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.remotecache.place import AnyContent, Expected
from pybuild.remotecache.places.s3bucket import Bucket, S3Fault
from pybuild.remotecache.places.s3options import S3Place
from pybuild.remotecache.places.servicecache import ServiceCache

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

_MOST_MANIFESTS = 1000
_MOST_BLOBS = 10_000
_AT_ONCE = 8


class S3Cache(ServiceCache):
    """One or several names below one prefix of a bucket."""

    title = "exporting cache to Amazon S3"

    def __init__(self, engine: Engine, place: S3Place) -> None:
        self._place = place
        self._bucket = _bucket_of(engine, place)
        name = f"{place.endpoint_url or 's3:'}//{place.bucket}/{place.prefix}"
        super().__init__(engine, str(place), name)
        self._etags: dict[Digest, str] = {}

    async def _documents(self) -> Sequence[bytes]:
        documents: list[bytes] = []
        for name in self._place.names:
            try:
                documents.append((await self._bucket.get(self._manifest(name), MAX_BYTES))[0])
            except S3Fault as fault:
                if fault.status != 404:
                    raise
        return documents

    async def _bytes(self, blob: Descriptor, limit: int) -> bytes:
        return (await self._bucket.get(self._blob(blob.digest), limit))[0]

    def _pieces(self, blob: Descriptor) -> AsyncIterator[bytes]:
        return self._bucket.pieces(self._blob(blob.digest), blob.size)

    async def check(self) -> None:
        """Nothing: only writing tells."""

    async def has(self, blob: Descriptor) -> bool:
        stored = await self._bucket.head(self._blob(blob.digest))
        if stored is None or stored.size != blob.size:
            return False
        if self._engine.clock.now() - stored.modified > self._place.touch_s:
            try:
                await self._bucket.touch(stored.key)
            except S3Fault:
                return False  # it may be gone before we have named it: write it again
        return True

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        path = self._engine.store.blobs.path(blob.digest)

        def progress(sent: int) -> None:
            step.transfer(blob.digest, sent, blob.size)

        await self._bucket.put_file(self._blob(blob.digest), path, blob.size, progress)

    async def named(self) -> Descriptor | None:
        key = self._manifest(self._place.names[0])
        stored = await self._bucket.head(key)
        if stored is None:
            return None
        if self._named is not None and self._etags.get(self._named[0].digest) == stored.etag:
            return self._named[0]
        data, etag = await self._bucket.get(key, MAX_BYTES)
        named = Descriptor(CACHE_CONFIG, Digest.of(data), len(data))
        self._named = named, data
        self._etags[named.digest] = etag
        return named

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        first, *others = self._place.names
        etag: str | None = None
        if not isinstance(expected, AnyContent):
            etag = "" if expected is None else self._etags[expected]
        written = await self._bucket.put(self._manifest(first), data, etag)
        if written is None:
            return False
        self._named = made, data
        self._etags[made.digest] = written
        for name in others:
            await self._bucket.put(self._manifest(name), data, None)
        return True

    async def collect(self, max_age_s: float) -> int:
        """Delete names that nobody wrote for *max_age_s*, and blobs that no name needs.

        What is younger than two touches stays: somebody may be about to name it. Of many blobs some
        are looked at, others another time.

        Returns how many objects are gone.
        """
        now, grace_s = self._engine.clock.now(), 2 * self._place.touch_s
        blobs = await self._bucket.list(self._blobs, _MOST_BLOBS)
        if len(blobs) == _MOST_BLOBS and random.random() < 0.5:
            start = f"{self._blobs}sha256:{random.randrange(16):x}"
            blobs = await self._bucket.list(self._blobs, _MOST_BLOBS, start)
        names = await self._bucket.list(self._manifests, _MOST_MANIFESTS)
        if len(names) == _MOST_MANIFESTS:
            return 0  # we do not know them all
        stale = {one.key for one in names if one.modified < now - max(max_age_s, grace_s)}
        stale.discard(self._manifest(self._place.names[0]))
        named: set[Digest] = set()
        for one in names:
            if one.key not in stale:
                data, _ = await self._bucket.get(one.key, MAX_BYTES)
                named |= named_blobs(data)
        keys = {self._blob(digest) for digest in named}
        unneeded = [one for one in blobs if one.key not in keys and one.modified < now - grace_s]
        places = asyncio.Semaphore(_AT_ONCE)

        async def delete(key: str) -> None:
            async with places:
                await self._bucket.delete(key)

        await asyncio.gather(*(delete(key) for key in [*stale, *(one.key for one in unneeded)]))
        await self._bucket.abort_uploads(self._blobs, now - grace_s)
        return len(stale) + len(unneeded)

    @property
    def _blobs(self) -> str:
        return self._place.prefix + self._place.blobs_prefix

    @property
    def _manifests(self) -> str:
        return self._place.prefix + self._place.manifests_prefix

    def _blob(self, digest: Digest) -> str:
        return self._blobs + digest

    def _manifest(self, name: str) -> str:
        return self._manifests + name


def _bucket_of(engine: Engine, place: S3Place) -> Bucket:
    """Return the engine's bucket for a place; those that differ in names alone share it."""
    from dataclasses import replace

    same = replace(place, names=(), prefix="", manifests_prefix="", blobs_prefix="")
    return engine.shared(same, lambda: Bucket(same))
