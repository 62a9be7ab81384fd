"""Registries and directories that hold a build's cache: read from, and written to [CCH-2, CCH-3]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pybuild.cache.results import PUSHED
from pybuild.image.archive import name_in_layout, write_layout_blob
from pybuild.image.manifest import MAX_MANIFEST_BYTES
from pybuild.internal import InternalStep
from pybuild.layouts import LayoutDirectory
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.engine import Engine

_MOST_PLACES = 8


class CacheSource(Protocol):
    """Where a cache is read; all bytes that it gives are what their digests say."""

    @property
    def place(self) -> Mapping[str, str]:
        """What the record of a layer that comes from here says of it."""
        ...

    async def root(self) -> tuple[Descriptor, bytes]:
        """Return the manifest or index that the cache hangs from.

        Raises:
            UserError: there is none. EnvironmentFault: it cannot be had, or is broken.
        """
        ...

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        """Return a manifest or another small blob."""
        ...


class CacheTarget(Protocol):
    """Where a cache is written."""

    @property
    def title(self) -> str:
        """How people know the step."""
        ...

    @property
    def is_named_elsewhere(self) -> bool:
        """Whether somebody else names what is written, and has to be told its manifest."""
        ...

    async def has(self, blob: Descriptor) -> bool: ...

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        """Take a blob of the store."""
        ...

    async def finish(self, manifest: Descriptor, data: bytes) -> None:
        """Let the cache be found, now that all its blobs are there."""
        ...


class RegistryCache:
    """A name in a registry."""

    title = "exporting cache to registry"
    is_named_elsewhere = False

    def __init__(self, engine: Engine, reference: Reference) -> None:
        self._engine = engine
        self._reference = reference

    @property
    def place(self) -> Mapping[str, str]:
        return {"reference": str(self._reference)}

    async def root(self) -> tuple[Descriptor, bytes]:
        return await self._engine.client().manifest(self._reference)

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        from pybuild.registry.manifests import is_manifest_type

        if is_manifest_type(blob.media_type):
            return (await self._engine.client().manifest(self._reference, blob))[1]
        return await self._engine.client().blob(self._reference, blob, limit=limit)

    async def has(self, blob: Descriptor) -> bool:
        return await self._engine.client().blob_exists(self._reference, blob)

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        store = self._engine.store
        places = await asyncio.to_thread(_pushed, store, blob)
        near = [other for place in places for other in self._engine.near(place)]
        start = self._reference.host + "/"
        mounts = [p.removeprefix(start) for p in near if p.startswith(start)]
        await self._engine.client().push_blob(
            self._reference, blob, store.blobs, mounts, step.transfer
        )
        here = self._reference.repository
        if here not in places:
            known = {"repositories": [here, *places][:_MOST_PLACES]}
            await asyncio.to_thread(store.records.put, PUSHED, blob.digest, known)

    async def finish(self, manifest: Descriptor, data: bytes) -> None:
        await self._engine.client().push_manifest(self._reference, manifest.media_type, data)


class DirectoryCache:
    """An OCI layout directory of this machine; the tag tells several caches apart."""

    title = "exporting cache to client directory"
    is_named_elsewhere = False

    def __init__(
        self, engine: Engine, path: str, tag: str = "", digest: Digest | None = None
    ) -> None:
        self._store = engine.store
        self._path = path
        self._tag = tag
        self._digest = digest

    @property
    def place(self) -> Mapping[str, str]:
        return {"layout": self._path}

    async def root(self) -> tuple[Descriptor, bytes]:
        return await asyncio.to_thread(self._root)

    def _root(self) -> tuple[Descriptor, bytes]:
        layout = LayoutDirectory(self._path)
        found = layout.find(self._tag, self._digest)
        return found, layout.read(found, MAX_MANIFEST_BYTES)

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        return await asyncio.to_thread(lambda: LayoutDirectory(self._path).read(blob, limit))

    async def has(self, blob: Descriptor) -> bool:
        algorithm, hex = blob.digest.algorithm, blob.digest.hex
        try:
            size = os.stat(os.path.join(self._path, "blobs", algorithm, hex)).st_size
        except OSError:
            return False
        return size == blob.size

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        path = self._store.blobs.path
        await asyncio.to_thread(write_layout_blob, self._path, blob, path)
        step.transfer(blob.digest, blob.size, blob.size)

    async def finish(self, manifest: Descriptor, data: bytes) -> None:
        path = self._store.blobs.path
        await asyncio.to_thread(write_layout_blob, self._path, manifest, path)
        await asyncio.to_thread(name_in_layout, self._path, manifest, self._tag or "latest")


def _pushed(store: Store, blob: Descriptor) -> list[str]:
    """Return the repositories that are known to have a blob."""
    known = store.records.get(PUSHED, blob.digest) or {}
    found: Sequence[object] = known.get("repositories") or ()
    return [str(place) for place in found]
