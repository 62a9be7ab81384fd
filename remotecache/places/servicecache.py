"""A cache at a service that keeps objects: its config is its root, its layers are found by digest [CCH]."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pybuild.image.cacheformat.config import CACHE_CONFIG, write_config
from pybuild.image.cacheformat.merge import united
from pybuild.image.cacheformat.read import read_config
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.engine.progress import InternalStep
    from pybuild.remotecache.place import CacheSource


class ServiceCache(ABC):
    """The part of a cache that is alike at all services.

    Args:
        title: of the place, for people.
        name: of the place, among those that lend layers.
    """

    is_named_by_others = False
    has_manifests = False
    is_exact = True

    def __init__(self, engine: Engine, title: str, name: str) -> None:
        self._engine = engine
        self._title = title
        self._name = name
        self._named: tuple[Descriptor, bytes] | None = None
        engine.images.lenders[name] = self._lend

    @property
    def place(self) -> Mapping[str, str]:
        return {"layout": self._name}

    @property
    def shared(self) -> CacheSource:
        return self

    async def root(self) -> tuple[Descriptor, bytes]:
        documents = await self._documents()
        if not documents:
            raise UserError(f"{self._title}: not found")
        data = documents[0]
        if len(documents) > 1:
            data = write_config(united([read_config(one) for one in documents]))
        return Descriptor(CACHE_CONFIG, Digest.of(data), len(data)), data

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        if self._named is not None and self._named[0].digest == blob.digest:
            return self._named[1]
        data = await self._bytes(blob, limit)
        if Digest.of(data) != blob.digest:
            raise EnvironmentFault(f"{self._title}: blob {blob.digest} is damaged")
        return data

    @abstractmethod
    async def _documents(self) -> Sequence[bytes]:
        """Return the configs that are read together, those that are there."""

    @abstractmethod
    async def _bytes(self, blob: Descriptor, limit: int) -> bytes:
        """Return a small blob, as it is there."""

    @abstractmethod
    def _pieces(self, blob: Descriptor) -> AsyncIterator[bytes]:
        """Yield the bytes of a layer."""

    async def _lend(self, blob: Descriptor, step: InternalStep) -> None:
        """Copy a layer into the store."""
        with self._engine.store.blobs.writer(blob.digest, blob.size) as file:
            current = 0
            async for piece in self._pieces(blob):
                await asyncio.to_thread(file.write, piece)
                current += len(piece)
                step.transfer(blob.digest, current, blob.size)
            await asyncio.to_thread(file.commit)
