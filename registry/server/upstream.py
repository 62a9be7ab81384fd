"""Other registries, cached: what is pulled through us is kept, and had from here the next time.

A cached repository is one like any other, below its upstream's prefix; it is only filled by pulls
instead of pushes. Nothing is had from upstream that no manifest names which was had from there.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from weakref import WeakValueDictionary

from pybuild.cache.content.images import references
from pybuild.cache.repositories.repositories import Repository, is_name
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, EnvironmentFault, PybuildError
from pybuild.model.jsontext import as_list, as_object, parse
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from pybuild.registry.client.faults import UnresolvedImage
from pybuild.registry.server import pushedmanifest
from pybuild.registry.server.download import Download
from pybuild.registry.server.metrics import Metrics
from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.routes import Permission, RegistryCall
from pybuild.registry.server.settings import UpstreamSettings

_DOWNLOADS = 8


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository of an upstream: where it is, and how it is called here."""

    upstream: UpstreamSettings
    reference: Reference
    local: Repository


class Upstreams:
    """The registries that one server caches. Belongs to its event loop."""

    def __init__(
        self,
        store: Store,
        client: Client,
        upstreams: tuple[UpstreamSettings, ...],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._client = client
        self._upstreams = upstreams
        self._metrics = metrics
        self._checked: dict[tuple[str, str], float] = {}
        self._locks = WeakValueDictionary[tuple[str, str], asyncio.Lock]()
        self._downloads: dict[tuple[str, Digest], Download] = {}
        self._turns = asyncio.Semaphore(_DOWNLOADS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give up the downloads that are on their way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def translated(self, call: RegistryCall, namespace: str) -> RegistryCall:
        """Return *call* with the name that the repository has here.

        Args:
            namespace: ``?ns=``: whose repository it is, as mirrors are asked.
        """
        if not call.name or call.action is not Permission.PULL:
            return call
        for upstream in self._upstreams:
            fallback = upstream.for_all and not namespace and not self._is_ours(call.name)
            if (namespace == upstream.host) if namespace else fallback:
                name = f"{upstream.prefix}/{call.name}"
                return replace(call, name=name) if is_name(name) else call
        return call

    def _is_ours(self, name: str) -> bool:
        return self.find(name) is not None or self._store.repositories[name].exists()

    def find(self, name: str) -> Remote | None:
        """Return the remote repository that *name* caches; None if it is one of ours."""
        for upstream in self._upstreams:
            path = name.removeprefix(upstream.prefix + "/")
            if path != name:
                try:
                    reference = Reference.parse(f"{upstream.host}/{path}")
                except ValueError:
                    return None
                return Remote(upstream, reference, self._store.repositories[name])
        return None

    async def manifest(self, call: RegistryCall) -> None:
        """See to it that a manifest is here, and not older than it may be, if upstream has it.

        When upstream cannot be asked, what is here has to do.

        Raises:
            Refusal: upstream failed, and nothing is here.
        """
        remote = self.find(call.name)
        if remote is None:
            return
        key = (call.name, call.tag or str(call.digest))
        # One question at a time for each; the lock goes with the last who waits.
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            here = await asyncio.to_thread(_here, remote.local, call)
            if here is not None and (call.digest or self._is_fresh(key, remote.upstream)):
                self._count(remote, "hit")
                return
            reference = replace(remote.reference, tag=call.tag or None, digest=call.digest)
            try:
                await self._refresh(remote, reference, here)
            except UnresolvedImage as error:
                cause = error.__cause__
                if isinstance(cause, HttpFault) and cause.status == 404:
                    self._count(remote, "missing")
                    if call.tag and here is not None:
                        await asyncio.to_thread(remote.local.untag, call.tag)
                    return
                self._unavailable(remote, error, here)
            except PybuildError as error:
                self._unavailable(remote, error, here)
            else:
                self._checked[key] = self._store.clock.now()

    def _unavailable(self, remote: Remote, error: PybuildError, here: Digest | None) -> None:
        self._count(remote, "failed" if here is None else "stale")
        if here is None:
            message = f"{remote.upstream.host} cannot be asked: {error.message}"
            raise Refusal(502, RefusalCode.UNSUPPORTED, message) from error

    async def _refresh(self, remote: Remote, reference: Reference, here: Digest | None) -> None:
        if here is not None and (await self._client.resolve(reference)).digest == here:
            self._count(remote, "same")
            return
        descriptor, data = await self._client.manifest(reference)
        _, entry = pushedmanifest.read(data, descriptor.media_type, descriptor.digest)

        def keep() -> None:
            with self._store.leases.create() as lease:
                with self._store.blobs.writer(descriptor.digest, len(data), lease=lease) as writer:
                    writer.write(data)
                    writer.commit()
                remote.local.put_manifest(entry, [reference.tag] if reference.tag else [])
            if here is not None:
                # Nobody pushed it here for its own sake, and upstream has it still.
                with self._store.repositories.exclusively():
                    remote.local.release(here)

        await asyncio.shield(asyncio.to_thread(keep))
        self._count(remote, "fetched")

    def _is_fresh(self, key: tuple[str, str], upstream: UpstreamSettings) -> bool:
        checked = self._checked.get(key)
        # One of the future says that the clock was set back.
        return checked is not None and 0 <= self._store.clock.now() - checked < upstream.fresh_s

    async def blob(self, call: RegistryCall) -> Download | None:
        """Return the blob on its way here; None when it is here, or is nowhere."""
        remote, digest = self.find(call.name), call.digest
        if remote is None or digest is None:
            return None
        descriptor = await asyncio.to_thread(self._missing_blob, remote.local, digest)
        if descriptor is None:
            return None
        key = (call.name, digest)
        download = self._downloads.get(key)
        if download is None:
            download = self._downloads[key] = Download(self._store, remote.local, descriptor)
            task = asyncio.create_task(self._download(download, remote, key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return download

    def _missing_blob(self, local: Repository, digest: Digest) -> Descriptor | None:
        """Return the descriptor of a blob that is to be fetched; None if it need or may not be."""
        if local.has_blob(digest):
            return None
        for manifest in local.manifests():
            try:
                document = as_object(parse(self._store.blobs.read(manifest)))
            except BlobMissing:
                continue
            if not any(named == digest for _, named in references(document)):
                continue
            for value in (document.get("config"), *as_list(document.get("layers"))):
                if as_object(value).get("digest") == digest:
                    return self._unless_stored(local, Descriptor.from_json(value))
        return None

    def _unless_stored(self, local: Repository, descriptor: Descriptor) -> Descriptor | None:
        """Link a blob that the builder has pulled already; return *descriptor* if it has not."""
        with self._store.leases.create() as lease:
            lease.add("blob", descriptor.digest)
            if not self._store.blobs.holds(descriptor):
                return descriptor
            local.link_blob(descriptor.digest)
        self._metrics.linked["pulled",] += 1
        return None

    async def _download(self, download: Download, remote: Remote, key: tuple[str, Digest]) -> None:
        try:
            async with self._turns:
                await self._client.pull_blob(remote.reference, download.descriptor, download)
            self._count(remote, "blob")
            download.succeed()
        except PybuildError as error:
            self._count(remote, "failed")
            download.fail(error)
        except BaseException:
            download.fail(EnvironmentFault("the server is stopping"))
            raise
        finally:
            del self._downloads[key]

    async def tags(self, name: str) -> list[str] | None:
        """Return the tags that upstream has; None when it cannot be asked, or *name* is ours."""
        remote = self.find(name)
        if remote is None:
            return None
        try:
            return sorted(await self._client.tags(remote.reference))
        except PybuildError:
            self._count(remote, "stale")
            return None

    def _count(self, remote: Remote, outcome: str) -> None:
        self._metrics.fetched[remote.upstream.prefix, outcome] += 1


def _here(local: Repository, call: RegistryCall) -> Digest | None:
    """Return the digest of the manifest that is cached for *call*."""
    digest = call.digest
    if digest is None:
        named = local.tag(call.tag)
        digest = named.digest if named else None
    return digest if digest is not None and local.manifest(digest) is not None else None
