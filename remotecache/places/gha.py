"""A cache in GitHub's Actions cache, with the keys that BuildKit's own has [CCH-4].

Entries are written once, and the service forgets the oldest. A layer's key has its digest. The config
of the cache is a row of entries with growing numbers, of which the newest counts; one row a branch, and
a branch sees its own and those of the branches that it comes from.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.engine.progress import InternalStep
from pybuild.image.cacheformat.config import CACHE_CONFIG, MAX_BYTES
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.remotecache.place import Expected
from pybuild.remotecache.places.ghaoptions import GhaPlace, GhaRights, read_rights
from pybuild.remotecache.places.ghaservice import GhaEntry, GhaService
from pybuild.remotecache.places.servicecache import ServiceCache

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

_BLOB = "buildkit-blob-1-"
_STUCK_S = 15.0
_PAUSE_S = 2.0
_COPIES = 4


class GhaCache(ServiceCache):
    """The caches of one scope, as one job may see them."""

    title = "exporting cache to GitHub Actions Cache"

    def __init__(
        self,
        engine: Engine,
        place: GhaPlace,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(engine, str(place), f"{place} of {place.url}")
        self._place = place
        self._pause = pause
        self._monotonic = monotonic
        self._rights: GhaRights | None = None
        self._number = 0
        self._passed = 0
        self._stuck: tuple[int, float] = (0, 0.0)
        self._writing: asyncio.Task[bool] | None = None

    async def _documents(self) -> Sequence[bytes]:
        documents: list[bytes] = []
        for scope in self._checked().readable:
            if (entry := await self._service.find(self._row(scope))) is not None:
                documents.append(await self._service.read(entry, MAX_BYTES))
        return documents

    async def _bytes(self, blob: Descriptor, limit: int) -> bytes:
        return await self._service.read(await self._entry(blob), limit)

    async def _pieces(self, blob: Descriptor) -> AsyncIterator[bytes]:
        async for piece in self._service.pieces(await self._entry(blob), blob.size):
            yield piece

    async def check(self) -> None:
        self._writable()

    async def has(self, blob: Descriptor) -> bool:
        return await self._service.find(_BLOB + blob.digest) is not None

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        """Write a layer; one that somebody began and did not end gets a key beside it.

        Whoever looks for a layer takes any key that starts with its own.
        """
        path = self._engine.store.blobs.path(blob.digest)

        def progress(sent: int) -> None:
            step.transfer(blob.digest, sent, blob.size)

        for copy in range(_COPIES):
            key = _BLOB + blob.digest + (f"-{copy}" if copy else "")
            if (reserved := await self._service.reserve(key)) is not None:
                await self._service.write(reserved, path, blob.size, progress)
                return
            await self._pause(_PAUSE_S)
            if await self.has(blob):
                return
        raise EnvironmentFault(f"{self._place}: layer {blob.digest} is being written by others")

    async def named(self) -> Descriptor | None:
        row = self._row(self._writable())
        entry = await self._service.find(row)
        if entry is None:
            self._number, self._named = 0, None
            return None
        number = _number(entry.key, row)
        if self._named is None or number != self._number:
            data = await self._service.read(entry, MAX_BYTES)
            self._named = Descriptor(CACHE_CONFIG, Digest.of(data), len(data)), data
            self._number = number
        return self._named[0]

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        """Write the next entry of the row, whose number only one writer gets.

        A write once begun goes on where its caller is cancelled: a number that was taken, and has no
        entry, keeps all others waiting. After a quarter of a minute, counted for each number, it is
        passed over: who took it is gone. Who took it and is only slow looks again.
        """
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
            return False
        row = self._row(self._writable())
        if not isinstance(expected, Digest) and expected is not None:
            await self.named()
        number = max(self._number, self._passed) + 1
        self._writing = asyncio.create_task(self._write(row, number, data))
        self._writing.add_done_callback(_forget)
        if not await asyncio.shield(self._writing):
            return False
        self._number, self._named = number, (made, data)
        return True

    async def _write(self, row: str, number: int, data: bytes) -> bool:
        """Write one entry; return whether it is the newest now."""
        reserved = await self._service.reserve(f"{row}{number}")
        began = self._monotonic()
        if reserved is None:
            if self._stuck[0] != number:
                self._stuck = number, began
            if began - self._stuck[1] > _STUCK_S:
                self._passed = number
            else:
                await self._pause(_PAUSE_S)
            return False
        await self._service.write(reserved, data, len(data), lambda sent: None)
        if self._monotonic() - began <= _STUCK_S / 2:
            return True
        newest = await self._service.find(row)
        return newest is not None and _number(newest.key, row) <= number

    async def collect(self, max_age_s: float) -> int:
        """Nothing: the service forgets by itself what nobody read for a week."""
        return 0

    async def _entry(self, blob: Descriptor) -> GhaEntry:
        entry = await self._service.find(_BLOB + blob.digest)
        if entry is None:
            raise UserError(f"{self._place}: no blob {blob.digest} any more")
        return entry

    @property
    def _service(self) -> GhaService:
        """The engine's connections to it, which the places of one service share."""
        self._checked()
        from dataclasses import replace

        same = replace(self._place, scope="")
        return self._engine.shared(same, lambda: GhaService(same))

    def _checked(self) -> GhaRights:
        """Return the rights of the token.

        Raises:
            UserError: it has none any more, or there is no service.
        """
        if self._rights is None:
            if not self._place.token or not self._place.url:
                raise UserError(
                    "a gha cache needs the token and the URL of a job of GitHub's Actions",
                    hints=[
                        "in a job, hand ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL to this step"
                    ],
                )
            self._rights = read_rights(self._place.token)
        if self._rights.expires and self._rights.expires <= self._engine.clock.now():
            raise UserError("the token of the gha cache has expired", hints=["begin the job again"])
        return self._rights

    def _writable(self) -> str:
        scope = self._checked().writable
        if scope is None:
            raise UserError(
                "the token of the gha cache may not write",
                hints=["give ignore-error=true where jobs of forks run"],
            )
        return scope

    def _row(self, scope: str) -> str:
        """Return the key, but for their numbers, of the configs for a branch."""
        branch = hashlib.sha256(scope.encode()).hexdigest()[:8]
        return f"index-{self._place.scope}-1-{branch}#"


def _forget(write: asyncio.Task[bool]) -> None:
    """Take the error of a write whose caller was cancelled, which nobody waits for."""
    if not write.cancelled():
        write.exception()


def _number(key: str, row: str) -> int:
    text = key.removeprefix(row)
    if not text.isascii() or not text.isdecimal() or len(text) > 12:
        raise EnvironmentFault(f"the Actions cache has an entry {key[:200]!r} that is no number")
    return int(text)
