"""A cache in Azure's blob store, where BuildKit's own has its blobs [CCH-6].

A name's blob is the cache's config itself; the layers lie beside it by their digests, for all names of
the prefix. Old ones are left to the account's rules of lifecycle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from pybuild.engine.progress import InternalStep
from pybuild.image.cacheformat.config import CACHE_CONFIG, MAX_BYTES
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.remotecache.place import AnyContent, Expected
from pybuild.remotecache.places.azureoptions import AzurePlace
from pybuild.remotecache.places.azurestore import AzureContainer
from pybuild.remotecache.places.servicecache import ServiceCache

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine


class AzblobCache(ServiceCache):
    """One or several names below one prefix of a container."""

    title = "exporting cache to Azure Blob Storage"

    def __init__(self, engine: Engine, place: AzurePlace) -> None:
        super().__init__(engine, str(place), str(place))
        self._place = place
        self._etags: dict[Digest, str] = {}
        self._is_made = False

    async def _documents(self) -> Sequence[bytes]:
        documents: list[bytes] = []
        for name in self._place.names:
            if (read := await self._store.get(self._place.manifest(name), MAX_BYTES)) is not None:
                documents.append(read[0])
        return documents

    async def _bytes(self, blob: Descriptor, limit: int) -> bytes:
        read = await self._store.get(self._place.blob(blob.digest), limit)
        if read is None:
            raise UserError(f"{self._place}: no blob {blob.digest} any more")
        return read[0]

    def _pieces(self, blob: Descriptor) -> AsyncIterator[bytes]:
        return self._store.pieces(self._place.blob(blob.digest), blob.size)

    async def check(self) -> None:
        """Nothing: only writing tells."""

    async def has(self, blob: Descriptor) -> bool:
        stored = await self._store.head(self._place.blob(blob.digest))
        return stored is not None and stored.size == blob.size

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        await self._make()
        path = self._engine.store.blobs.path(blob.digest)

        def progress(sent: int) -> None:
            step.transfer(blob.digest, sent, blob.size)

        await self._store.put_file(self._place.blob(blob.digest), path, blob.size, progress)

    async def named(self) -> Descriptor | None:
        read = await self._store.get(self._place.manifest(self._place.names[0]), MAX_BYTES)
        if read is None:
            return None
        data, etag = read
        named = Descriptor(CACHE_CONFIG, Digest.of(data), len(data))
        self._named = named, data
        self._etags[named.digest] = etag
        return named

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        await self._make()
        first, *others = self._place.names
        etag: str | None = None
        if not isinstance(expected, AnyContent):
            etag = "" if expected is None else self._etags[expected]
        written = await self._store.put(self._place.manifest(first), data, etag)
        if written is None:
            return False
        self._named = made, data
        self._etags[made.digest] = written
        for name in others:
            await self._store.put(self._place.manifest(name), data, None)
        return True

    async def collect(self, max_age_s: float) -> int:
        """Nothing: accounts have rules of their own for what is old."""
        return 0

    async def _make(self) -> None:
        """Have the container, as BuildKit makes it."""
        if not self._is_made:
            await self._store.create()
            self._is_made = True

    @property
    def _store(self) -> AzureContainer:
        """The engine's connections to it, which the places of one container share."""
        from dataclasses import replace

        if not self._place.secret:
            raise UserError(
                "an azblob cache needs the account's key",
                hints=["give secret_access_key=…, or set AZURE_STORAGE_KEY"],
            )
        same = replace(self._place, names=(), prefix="", manifests_prefix="", blobs_prefix="")
        return self._engine.shared(same, lambda: AzureContainer(same))
