"""A cache under a name in a registry [CCH-2]."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pybuild.cache.records.results import PUSHED
from pybuild.engine.progress import InternalStep
from pybuild.model.descriptor import DOCKER_INDEX, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.remotecache.place import AnyContent, CacheSource, Expected, digest_of

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.engine.engine import Engine

_MOST_PLACES = 8


class RegistryCache:
    """A name in a registry.

    Args:
        needed: the build fails without it, so it is worth waiting for.
    """

    title = "exporting cache to registry"
    is_named_by_others = False
    has_manifests = True
    is_exact = False

    def __init__(self, engine: Engine, reference: Reference, *, needed: bool = False) -> None:
        self._engine = engine
        self._client = engine.client if needed else engine.cache_client
        self._reference = reference
        self._ours: Digest | None = None
        self._deletes = True

    @property
    def place(self) -> Mapping[str, str]:
        return {"reference": str(self._reference)}

    @property
    def shared(self) -> CacheSource:
        return self

    async def root(self) -> tuple[Descriptor, bytes]:
        return await self._client().manifest(self._reference)

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        from pybuild.registry.client.manifests import is_manifest_type

        if is_manifest_type(blob.media_type):
            return (await self._client().manifest(self._reference, blob))[1]
        return await self._client().blob(self._reference, blob, limit=limit)

    async def check(self) -> None:
        """Nothing: only writing tells."""

    async def has(self, blob: Descriptor) -> bool:
        return await self._client().blob_exists(self._reference, blob)

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        store = self._engine.store
        places = await asyncio.to_thread(_pushed, store, blob)
        near = [other for place in places for other in self._engine.near(place)]
        start = self._reference.host + "/"
        mounts = [p.removeprefix(start) for p in near if p.startswith(start)]
        await self._client().push_blob(self._reference, blob, store.blobs, mounts, step.transfer)
        here = self._reference.repository
        if here not in places:
            known = {"repositories": [here, *places][:_MOST_PLACES]}
            await asyncio.to_thread(store.records.put, PUSHED, blob.digest, known)

    async def named(self) -> Descriptor | None:
        from pybuild.registry.client.faults import UnresolvedImage

        try:
            return await self._client().resolve(self._reference, at_origin=True)
        except UnresolvedImage:
            return None

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        """Look before and after: the protocol has no condition for writing a tag.

        Two writers that are within one round trip can miss each other: `Publisher.confirm`.
        """
        if not isinstance(expected, AnyContent) and digest_of(await self.named()) != expected:
            return False
        await self._client().push_manifest(self._reference, made.media_type, data)
        if not isinstance(expected, AnyContent) and digest_of(await self.named()) != made.digest:
            return False
        ours, self._ours = self._ours, made.digest
        if ours is not None and ours != made.digest and made.media_type != DOCKER_INDEX:
            await self._forget(ours)
        return True

    async def _forget(self, manifest: Digest) -> None:
        """Delete a manifest that this build wrote on its way: nobody was told of it.

        It says which tag it is for (`cachepublish`), so that no other tag can name the same.
        """
        from pybuild.net.http1.faults import HttpFault
        from pybuild.registry.client.faults import UnresolvedImage

        if self._deletes:
            reference = Reference(self._reference.host, self._reference.path, digest=manifest)
            try:
                await self._client().delete(reference, refers=False)
            except UnresolvedImage:
                pass  # somebody else was here first
            except HttpFault:
                self._deletes = False  # it never does, or not for us

    async def collect(self, max_age_s: float) -> int:
        return 0  # registries have collectors of their own


def _pushed(store: Store, blob: Descriptor) -> list[str]:
    """Return the repositories that are known to have a blob."""
    known = store.records.get(PUSHED, blob.digest) or {}
    repositories: Sequence[object] = known.get("repositories") or ()
    return [str(place) for place in repositories]
