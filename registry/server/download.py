"""One blob on its way from upstream, read by those who asked for it while it comes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Self

from pybuild.cache.disk.atomic import discard, faults
from pybuild.cache.repositories.repositories import Repository
from pybuild.cache.store import Store
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.registry.client.faults import ContentFault

_PIECE_BYTES = 1 << 20


class Download:
    """A `BlobSink` of one blob, whose bytes can be followed before all of them are there.

    They are checked at the end only, as by every client: who follows a wrong blob has the
    connection cut, and the store never sees it.
    """

    def __init__(self, store: Store, local: Repository, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._store = store
        self._local = local
        self._loop = asyncio.get_running_loop()
        self._hash = hashlib.new(descriptor.digest.algorithm)
        self._path = store.scratch()
        self._fd = store.disk.create(self._path)
        self._got = 0
        self._error: PybuildError | None = None
        self._ended = asyncio.Event()
        self._more = asyncio.Event()

    # --- for the client, in threads -------------------------------------------------------------

    def has(self, digest: Digest) -> bool:
        return False

    def writer(self, expected: Digest | None, size: int | None) -> Self:
        """Begin, or begin again, as another place is tried."""
        os.ftruncate(self._fd, 0)
        self._hash = hashlib.new(self.descriptor.digest.algorithm)
        self._got = 0
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        """Take the next bytes and wake who waits for them."""
        with faults("cannot store a blob", self._store.root):
            view, at = memoryview(data), self._got
            while view:
                count = os.pwrite(self._fd, view, at)
                view, at = view[count:], at + count
        self._hash.update(data)
        self._got = at
        self._loop.call_soon_threadsafe(self._tell)

    def commit(self) -> None:
        """Make it a blob of the store and of the repository.

        Raises:
            ContentFault: it is another one.
        """
        descriptor = self.descriptor
        if self._hash.hexdigest() != descriptor.digest.hex or self._got != descriptor.size:
            raise ContentFault(f"blob {descriptor.digest}: other bytes came")
        with self._store.leases.create() as lease:
            self._store.blobs.adopt(self._path, descriptor.digest, self._got, lease)
            self._local.link_blob(descriptor.digest)

    # --- on the event loop ---------------------------------------------------------------------

    def succeed(self) -> None:
        """Tell those who follow that all is there and right."""
        self._end()

    def fail(self, error: PybuildError) -> None:
        """Tell those who follow that no more will come."""
        self._error = error
        discard(self._path)
        self._end()

    def _tell(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    def _end(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._tell()
            os.close(self._fd)

    async def finished(self) -> None:
        """Wait for all of it.

        Raises:
            PybuildError: it could not be had.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield the bytes from the first, as they come.

        Raises:
            PybuildError: it could not be had, or turns out to be another blob.
        """
        if self._ended.is_set():
            await self.finished()
            fd = os.open(self._store.blobs.path(self.descriptor.digest), os.O_RDONLY)
        else:
            fd = os.dup(self._fd)
        at = 0
        try:
            while True:
                more = self._more
                if at < self._got:
                    data = await asyncio.to_thread(os.pread, fd, _PIECE_BYTES, at)
                    at += len(data)
                    # The last piece waits for the check: nobody gets all of a wrong blob.
                    if at == self.descriptor.size:
                        await self.finished()
                    yield data
                elif self._ended.is_set():
                    await self.finished()
                    return
                else:
                    await more.wait()
        finally:
            os.close(fd)
