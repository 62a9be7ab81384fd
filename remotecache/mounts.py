"""The cache mounts of one build, on their way between its steps and its caches [MNT-14, CCH].

What a place has of them is fetched when a step that mounts one runs, and this machine has none. What
steps of a successful build have used goes to the places that take mounts: chunks that are not there yet,
and an index. Nothing of it counts in a key, and no fault of it fails a build.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from pybuild.executor.steps.cachemounts import MountArrival
from pybuild.executor.steps.mountcarrying import pack_mount
from pybuild.executor.workers.job import Job, WorkerModule, job
from pybuild.image.cacheformat.config import CacheContents
from pybuild.image.cacheformat.mounts import (
    MAX_INDEX,
    MOUNT_INDEX,
    MOUNT_PACK,
    PACK_BYTES,
    CachedMount,
    MountIndex,
    MountPack,
    arranged,
    read_index,
)
from pybuild.model.amounts import human_age, human_bytes
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import BuildWarning, Emit

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.engine.progress import InternalStep
    from pybuild.executor.files.values import OwnerMode
    from pybuild.executor.steps import mountchunks
    from pybuild.remotecache.place import CacheSource, CacheTarget
    from pybuild.remotecache.writer import CacheWriter
else:
    mountchunks = WorkerModule("pybuild.executor.steps.mountchunks")

_AT_ONCE = 4
_LEAST_WORTH = 0.5
_SMALL_BYTES = 1 << 20
_MOST_SMALL = 32
_USE_GRAIN_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class _Arrival:
    origin: str
    mount: CachedMount
    index: MountIndex
    directory: str

    def unpacking(self, target: str, look: OwnerMode) -> Job[None]:
        sizes = tuple(pack.size for pack in self.index.packs)
        called = f'cache mount "{self.mount.id}"'
        records = self.index.records
        return job(mountchunks.unpack_job, target, look, called, self.directory, sizes, records)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A mount at a place that is read."""

    name: str
    source: CacheSource
    mount: CachedMount


class CarriedMounts:
    """Those of one build; a `MountCarrier`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._offers: dict[str, _Offer] = {}
        self._used: dict[str, str] = {}

    def offer(self, name: str, source: CacheSource, contents: CacheContents) -> None:
        """Let steps begin with the mounts of a cache; of those with the same name, the first counts."""
        for mount in contents.mounts:
            self._offers.setdefault(mount.name, _Offer(name, source, mount))

    def note_use(self, name: str, id: str) -> None:
        self._used[name] = id

    @asynccontextmanager
    async def arrival(self, name: str) -> AsyncGenerator[MountArrival | None]:
        offer = self._offers.get(name)
        if offer is None:
            yield None
            return
        directory = self._store.scratch("packs")
        await asyncio.to_thread(os.mkdir, directory, 0o700)
        try:
            index = await _index(offer)
            places = asyncio.Semaphore(_AT_ONCE)

            async def fetch(number: int, pack: MountPack) -> None:
                async with places:
                    data = await offer.source.read(pack.blob, pack.blob.size)
                path = os.path.join(directory, str(number))
                await asyncio.to_thread(_write, path, data)

            try:
                async with asyncio.TaskGroup() as group:
                    for number, pack in enumerate(index.packs):
                        group.create_task(fetch(number, pack))
            except ExceptionGroup as error:
                raise unwrap(error) from error
            size = sum(blob.size for blob in offer.mount.blobs)
            age = human_age(self._engine.clock.now() - offer.mount.saved)
            origin = f"{human_bytes(size)} from {offer.name}, saved {age}"
            yield _Arrival(origin, offer.mount, index, directory)
        finally:
            self._store.discard(directory)

    async def save(self, writer: CacheWriter, step: InternalStep, emit: Emit) -> None:
        """Bring the mounts that steps have used to a place, and have *writer* name them."""
        if not writer.cache_to.mounts:
            return
        saved: list[CachedMount] = []
        for name, id in sorted(self._used.items()):
            try:
                mount = await self._saved(writer, name, id, step)
            except (PybuildError, OSError, ExceptionGroup) as error:
                cause = unwrap(error)
                text = cause.message if isinstance(cause, PybuildError) else str(cause)
                emit(BuildWarning(message=f'cache mount "{id}" was not kept in the cache: {text}'))
            else:
                saved += [] if mount is None else [mount]
        writer.mounts = tuple(saved)

    async def _saved(
        self, writer: CacheWriter, name: str, id: str, step: InternalStep
    ) -> CachedMount | None:
        """Bring one mount there; return how it is named."""
        target, offer = writer.target, self._offers.get(name)
        old = {} if offer is None else await self._reusable(target, offer)
        directory = self._store.scratch("packs")
        await asyncio.to_thread(os.mkdir, directory, 0o700)
        try:
            packed = await pack_mount(
                self._store,
                self._engine.workers,
                (name, id),
                partial(
                    _packing,
                    known=b"".join(old),
                    directory=directory,
                    most=writer.cache_to.mount_bytes,
                ),
            )
            if packed is None:
                return None
            new: list[MountPack] = []
            for number, pack in enumerate(packed.packs):
                blob = Descriptor(MOUNT_PACK, Digest.parse(pack.digest), pack.size)
                path = os.path.join(directory, str(number))
                await asyncio.to_thread(self._store.blobs.adopt, path, blob.digest, blob.size)
                await self._send(target, blob, step)
                new.append(MountPack(blob, pack.whole))
        finally:
            self._store.discard(directory)
        index = await asyncio.to_thread(arranged, packed.chunks, old, new)
        data = await asyncio.to_thread(index.encode)
        digest = await asyncio.to_thread(self._store.blobs.put, data)
        blob = Descriptor(MOUNT_INDEX, digest, len(data))
        await self._send(target, blob, step)
        now = self._engine.clock.now()
        mount = CachedMount(
            name=name,
            id=id,
            size=packed.size,
            saved=now,
            used=now,
            index=blob,
            packs=tuple(pack.blob for pack in index.packs),
        )
        moved = sum(pack.blob.size for pack in new)
        step.say(f'cache mount "{id}": {human_bytes(moved)} of {human_bytes(packed.size)} are new')
        known = offer.mount if offer is not None else mount
        if known.index.digest == blob.digest and now - known.used < _USE_GRAIN_S:
            return known
        return mount

    async def _send(self, target: CacheTarget, blob: Descriptor, step: InternalStep) -> None:
        if not await target.has(blob):
            await target.put(blob, step)
        await asyncio.to_thread(self._store.blobs.delete, blob.digest)

    async def _reusable(
        self, target: CacheTarget, offer: _Offer
    ) -> dict[bytes, tuple[MountPack, int]]:
        """Return the chunks that *target* has in packs that are worth to be kept, by their digests."""
        try:
            index = await _index(offer)
        except PybuildError:
            return {}
        small = sum(pack.size < _SMALL_BYTES for pack in index.packs)
        kept: set[int] = set()
        shares = await asyncio.to_thread(index.worth)
        for number, (pack, worth) in enumerate(zip(index.packs, shares, strict=True)):
            is_small = pack.size < _SMALL_BYTES and small > _MOST_SMALL
            if worth >= _LEAST_WORTH and not is_small and await target.has(pack.blob):
                kept.add(number)
        return {
            chunk.digest: (index.packs[chunk.pack], chunk.offset)
            for chunk in index.places()
            if chunk.pack in kept
        }


async def _index(offer: _Offer) -> MountIndex:
    data = await offer.source.read(offer.mount.index, MAX_INDEX)
    return await asyncio.to_thread(read_index, data, offer.mount)


def _packing(path: str, *, known: bytes, directory: str, most: int) -> Job[mountchunks.PackedMount]:
    return job(mountchunks.pack_job, path, known, directory, most, PACK_BYTES)


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
