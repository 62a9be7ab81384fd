"""Registries and directories that hold a build's cache: read from, and written to [CCH-2, CCH-3]."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pybuild.cache.results import PUSHED
from pybuild.image.archive import name_in_layout, write_layout_blob
from pybuild.image.manifest import MAX_MANIFEST_BYTES
from pybuild.internal import InternalStep
from pybuild.layouts import LayoutDirectory
from pybuild.layoutsweep import sweep
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.engine import Engine

_MOST_PLACES = 8
_GRACE_S = 3600.0
"""A blob of a directory that was wanted so lately may be about to be named."""


class Anything(Enum):
    """Stands for whatever is there."""

    ANYTHING = "anything"


ANYTHING = Anything.ANYTHING
Over = Digest | Anything | None


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

    @property
    def has_manifests(self) -> bool:
        """Whether a manifest is named there; otherwise it is the cache's config itself."""
        ...

    @property
    def shared(self) -> CacheSource | None:
        """The same place to read from; None where nobody else can write to it meanwhile."""
        ...

    async def has(self, blob: Descriptor) -> bool:
        """Tell whether a blob is there, and will be for as long as a build takes."""
        ...

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        """Take a blob of the store."""
        ...

    async def named(self) -> Descriptor | None:
        """Return what is named there now, as `CacheSource.read` takes it."""
        ...

    async def finish(self, made: Descriptor, data: bytes, over: Over) -> bool:
        """Let the cache be found, now that all its blobs are there.

        Args:
            over: the digest of what is named there now, or nothing.

        Returns whether it was so; nothing is lost if not.
        """
        ...

    async def collect(self, max_age_s: float) -> int:
        """Delete what nobody needs, where that is ours to do; return how many objects went.

        Args:
            max_age_s: a name that nobody has written for so long is not needed.
        """
        ...


class RegistryCache:
    """A name in a registry."""

    title = "exporting cache to registry"
    is_named_elsewhere = False
    has_manifests = True

    def __init__(self, engine: Engine, reference: Reference) -> None:
        self._engine = engine
        self._reference = reference

    @property
    def place(self) -> Mapping[str, str]:
        return {"reference": str(self._reference)}

    @property
    def shared(self) -> CacheSource:
        return self

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

    async def named(self) -> Descriptor | None:
        from pybuild.registry.faults import UnresolvedImage

        try:
            return await self._engine.client().resolve(self._reference, at_origin=True)
        except UnresolvedImage:
            return None

    async def finish(self, made: Descriptor, data: bytes, over: Over) -> bool:
        """Look before and after: the protocol has no condition for writing a tag.

        Two writers that miss each other both times would have to be within one round trip.
        """
        if not isinstance(over, Anything) and _digest(await self.named()) != over:
            return False
        await self._engine.client().push_manifest(self._reference, made.media_type, data)
        return isinstance(over, Anything) or _digest(await self.named()) == made.digest

    async def collect(self, max_age_s: float) -> int:
        return 0  # registries have collectors of their own


class DirectoryCache:
    """An OCI layout directory of this machine; the tag tells several caches apart."""

    title = "exporting cache to client directory"
    is_named_elsewhere = False
    has_manifests = True

    def __init__(
        self, engine: Engine, path: str, tag: str = "", digest: Digest | None = None
    ) -> None:
        self._store = engine.store
        self._clock = engine.clock
        self._path = path
        self._tag = tag
        self._digest = digest

    @property
    def place(self) -> Mapping[str, str]:
        return {"layout": self._path}

    @property
    def shared(self) -> CacheSource:
        return self

    async def root(self) -> tuple[Descriptor, bytes]:
        return await asyncio.to_thread(self._root)

    def _root(self) -> tuple[Descriptor, bytes]:
        layout = LayoutDirectory(self._path)
        found = layout.find(self._tag, self._digest)
        return found, layout.read(found, MAX_MANIFEST_BYTES)

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        return await asyncio.to_thread(lambda: LayoutDirectory(self._path).read(blob, limit))

    async def has(self, blob: Descriptor) -> bool:
        path = os.path.join(self._path, "blobs", blob.digest.algorithm, blob.digest.hex)
        try:
            os.utime(path)  # whoever collects garbage sees that it is wanted
            return os.stat(path).st_size == blob.size
        except OSError:
            return False

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        path = self._store.blobs.path
        await asyncio.to_thread(write_layout_blob, self._path, blob, path)
        step.transfer(blob.digest, blob.size, blob.size)

    async def named(self) -> Descriptor | None:
        return await asyncio.to_thread(self._named)

    def _named(self) -> Descriptor | None:
        try:
            return LayoutDirectory(self._path).find(self._tag or "latest", None)
        except UserError:
            return None

    async def finish(self, made: Descriptor, data: bytes, over: Over) -> bool:
        return await asyncio.to_thread(self._finish, made, over)

    def _finish(self, made: Descriptor, over: Over) -> bool:
        write_layout_blob(self._path, made, self._store.blobs.path)
        with held(self._path):
            if not isinstance(over, Anything) and _digest(self._named()) != over:
                return False
            name_in_layout(self._path, made, self._tag or "latest")
        return True

    async def collect(self, max_age_s: float) -> int:
        return await asyncio.to_thread(self._collect)

    def _collect(self) -> int:
        with held(self._path):
            return sweep(self._path, self._clock.now() - _GRACE_S)


@contextmanager
def held(path: str) -> Generator[None]:
    """Keep others from changing what a directory names; of several processes too."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_passing(error: PybuildError) -> bool:
    """Tell whether something may be there that just cannot be read at present."""
    from pybuild.registry.faults import ContentFault

    status = getattr(error, "status", None)
    if status is None or isinstance(error, ContentFault):
        return False
    return status not in range(400, 500) or status == 429


def _digest(named: Descriptor | None) -> Digest | None:
    return None if named is None else named.digest


def _pushed(store: Store, blob: Descriptor) -> list[str]:
    """Return the repositories that are known to have a blob."""
    known = store.records.get(PUSHED, blob.digest) or {}
    found: Sequence[object] = known.get("repositories") or ()
    return [str(place) for place in found]
