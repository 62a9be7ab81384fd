"""Caches of builds that clients ask for: in registries, and in directories of theirs [7.4]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.session.pieces import pieces
from pybuild.daemon.session.content import SessionContent
from pybuild.engine.progress import InternalStep
from pybuild.image.manifest import MAX_MANIFEST_BYTES
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.events import BuildWarning
from pybuild.remotecache.export import target_of
from pybuild.remotecache.imports import import_caches, source_of
from pybuild.remotecache.mounts import CarriedMounts
from pybuild.remotecache.options import CacheFrom, CacheTo, cache_from, cache_to
from pybuild.remotecache.place import CacheSource, CacheTarget, Expected
from pybuild.remotecache.places.services import check_own_credentials
from pybuild.remotecache.reader import Memo
from pybuild.remotecache.session import CacheSession, open_cache_session

if TYPE_CHECKING:
    from pybuild.cache.records.imported import ImportedCache
    from pybuild.cache.store import Store
    from pybuild.daemon.control.workplaces import Workplace
    from pybuild.daemon.session.sessions import Session
    from pybuild.engine.engine import Engine
    from pybuild.model.events import Emit

_NOT_SHARED = "a cache named while the build goes on is not imported: its claims would be other clients' as well"
Entry = tuple[str, Mapping[str, str]]


class CacheScope(Protocol):
    """One build of a client, as far as its caches know it."""

    store: Store
    workplace: Workplace
    emit: Emit
    imports: Imports

    @property
    def engine(self) -> Engine:
        """The engine with the client's credentials."""
        ...

    @property
    def session(self) -> Session | None:
        """The client's session, for caches in its directories."""
        ...

    def find_in(self, caches: Sequence[ImportedCache]) -> None:
        """Find in *caches* the results that the store does not have, until the build ends."""
        ...


class SessionCache:
    """A directory of a client, through its session."""

    title = "exporting cache to client directory"
    is_named_by_others = True
    has_manifests = True
    is_exact = True
    shared = None

    def __init__(self, scope: CacheScope, path: str, digest: Digest | None = None) -> None:
        if scope.session is None:
            raise UserError("local cache exporter/importer requires session")
        self._store = scope.store
        self._path = path
        self._digest = digest
        self._content = SessionContent(scope.session, f"local:{path}")
        of = scope.session.info
        self._name = f"session-cache:{of.owner}:{of.id}:{path}"
        scope.engine.images.lenders[self._name] = self._lend

    @property
    def place(self) -> Mapping[str, str]:
        return {"layout": self._name}

    async def root(self) -> tuple[Descriptor, bytes]:
        if self._digest is None:
            raise UserError("local cache importer requires explicit digest")
        info = await self._content.info(self._digest)
        if info is None:
            raise UserError(f"{self._path}: {self._digest} not found")
        blob = Descriptor("", self._digest, info.size)
        return blob, await self.read(blob, MAX_MANIFEST_BYTES)

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        if blob.size > limit:
            raise EnvironmentFault(f"{blob.digest} has {blob.size} bytes, more than {limit}")
        data = bytearray()
        async for piece in self._content.read(blob.digest):
            data += piece
            if len(data) > limit:
                raise EnvironmentFault(f"{blob.digest} has more than {limit} bytes")
        if Digest.of(bytes(data)) != blob.digest:
            raise EnvironmentFault(f"{blob.digest}: the client sent something else")
        return bytes(data)

    async def _lend(self, blob: Descriptor, step: InternalStep) -> None:
        """Copy a layer into the store."""
        with self._store.blobs.writer(blob.digest, blob.size) as file:
            current = 0
            async for piece in self._content.read(blob.digest):
                await asyncio.to_thread(file.write, piece)
                current += len(piece)
                step.transfer(blob.digest, current, blob.size)
            await asyncio.to_thread(file.commit)

    async def check(self) -> None:
        """Nothing: the client has looked."""

    async def has(self, blob: Descriptor) -> bool:
        info = await self._content.info(blob.digest)
        return info is not None and info.size == blob.size

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        path = self._store.blobs.path(blob.digest)
        await self._content.write(blob.digest, blob.size, pieces(path))
        step.transfer(blob.digest, blob.size, blob.size)

    async def named(self) -> Descriptor | None:
        return None

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        """Write the manifest; the client names it in its index."""
        path = self._store.blobs.path(made.digest)
        await self._content.write(made.digest, made.size, pieces(path))
        return True

    async def collect(self, max_age_s: float) -> int:
        return 0


async def exports_of(scope: CacheScope, cache: pb.CacheOptions) -> CacheSession:
    """Return the session of the caches that a client wants written; it has looked at their places.

    Raises:
        PybuildError: a place that there is not, or that cannot be written.
    """
    entries = [(one.Type, dict(one.Attrs)) for one in cache.Exports]
    if not entries and cache.ExportRefDeprecated:
        attrs = {**cache.ExportAttrsDeprecated, "ref": cache.ExportRefDeprecated}
        entries = [("registry", attrs)]
    exports = [cache_to(kind, attrs, strict=False) for kind, attrs in entries]
    for one in exports:
        _check_credentials(scope, one)
    find, memo, mounts = partial(_target, scope), scope.imports.memo, scope.imports.mounts
    return await open_cache_session(
        scope.engine, exports, scope.emit, memo=memo, find=find, mounts=mounts
    )


def _check_credentials(scope: CacheScope, option: CacheTo | CacheFrom) -> None:
    """Raise UserError if a service would be reached with the server's own credentials."""
    if option.service is not None and not scope.workplace.is_servers:
        check_own_credentials(option.service, option.attrs)


def _target(scope: CacheScope, export: CacheTo) -> CacheTarget:
    return SessionCache(scope, export.dest) if export.dest else target_of(scope.engine, export)


def imports_of(cache: pb.CacheOptions) -> list[Entry]:
    """Return the caches that the request itself names; the frontend's attributes may name more."""
    entries: list[Entry] = [(one.Type, dict(one.Attrs)) for one in cache.Imports]
    return entries or [("registry", {"ref": ref}) for ref in cache.ImportRefsDeprecated]


class Imports:
    """The caches that one build has imported; each once, however often it is named."""

    def __init__(self, scope: CacheScope) -> None:
        self._scope = scope
        self.memo: Memo = {}
        self.mounts = CarriedMounts(scope.engine)
        self.caches: list[ImportedCache] = []
        self._resolved: set[str] = set()
        self._lock = asyncio.Lock()

    async def add(self, entries: Iterable[Entry]) -> None:
        """Import the caches that were not yet; a failure is a warning."""
        if self._scope.workplace.guest:
            if any(True for _ in entries):
                self._scope.emit(BuildWarning(message=_NOT_SHARED))
            return
        async with self._lock:  # whoever names a cache has it when this returns
            scope = self._scope
            sources: list[tuple[CacheFrom, CacheSource]] = []
            for kind, attrs in entries:
                name = json.dumps([kind, sorted(attrs.items())])
                if name in self._resolved:
                    continue
                self._resolved.add(name)
                try:
                    option = cache_from(kind, attrs, strict=False)
                    _check_credentials(scope, option)
                    source: CacheSource
                    if option.src:
                        source = SessionCache(scope, option.src, option.digest)
                    else:
                        source = source_of(scope.engine, option)
                    sources.append((option, source))
                except UserError as error:
                    text = f"cannot import a cache of type {kind}: {error.message}"
                    scope.emit(BuildWarning(message=text))
            if sources:
                caches = await import_caches(
                    scope.engine, sources, self.memo, scope.emit, self.mounts
                )
                self.caches += caches
                scope.find_in(caches)
