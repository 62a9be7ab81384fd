"""The client: the questions that a build asks registries, each a method."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from typing import Self, TypeVar

from pybuild.model.clock import Clock
from pybuild.model.descriptor import OCI_INDEX, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.net.http1.client import Response
from pybuild.net.http1.faults import ConnectionLost, HttpFault
from pybuild.net.http1.patience import Patience
from pybuild.net.http1.retries import RETRIED
from pybuild.registry.client import delete, download, listing, manifests, referrers, upload
from pybuild.registry.client.blobsink import BlobSink, BlobSource, Progress
from pybuild.registry.client.challenge import Scopes, pull_scope, push_scope
from pybuild.registry.client.credentials import Credentials, NoCredentials
from pybuild.registry.client.faults import ContentFault, UnresolvedImage
from pybuild.registry.client.growingupload import EarlyUpload, GrowingFile
from pybuild.registry.client.hosts import Endpoint, Hosts
from pybuild.registry.client.listing import SearchResult
from pybuild.registry.client.referrers import Referrer
from pybuild.registry.client.taglists import TagLists
from pybuild.registry.client.transport import Request, TransferLimits, Transport, once_only
from pybuild.registry.client.upload import Fetch, Pushed

T = TypeVar("T")

_MIRROR_REST_S = 60.0
_BUDGET_S = 5.0
_IMPATIENT = TransferLimits(attempts=5, backoff_most_s=2.0, retry_after_most_s=_BUDGET_S)


class Client:
    """Speaks to all registries of a build; close it, or use it as a context.

    Methods raise `HttpFault` (an EnvironmentFault) when a registry or the network fails us,
    `UnresolvedImage` (a UserError) when an image is not there for us.
    """

    def __init__(
        self,
        hosts: Hosts | None = None,
        credentials: Credentials | None = None,
        *,
        clock: Clock,
        environ: Mapping[str, str] | None = None,
        limits: TransferLimits | None = None,
        chunk_bytes: int = 0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Open nothing yet.

        Args:
            credentials: nobody's by default.
            environ: read for proxies only [REG-13].
            chunk_bytes: upload blobs in chunks of this many bytes; 0: in one piece.
        """
        self._hosts = hosts or Hosts()
        self.settings_file = self._hosts.file
        self._clock = clock
        self._chunk_bytes = chunk_bytes
        self._transport = Transport(
            self._hosts,
            credentials or NoCredentials(),
            clock,
            environ=environ,
            limits=limits,
            sleep=sleep,
            jitter=jitter,
        )
        self._resting: dict[str, float] = {}
        self._tag_lists = TagLists(self._read_list, self._write_list)

    def impatient(self, patience: Patience | None = None) -> Client:
        """Return a client over the same connections, for requests that may fail without harm.

        Args:
            patience: by default a host that fails for a few seconds is given up for a minute.
        """
        twin = copy(self)
        patience = patience or Patience(_BUDGET_S)
        twin._transport = self._transport.impatient(_IMPATIENT, patience)
        twin._tag_lists = TagLists(twin._read_list, twin._write_list)
        return twin

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._transport.close()

    async def resolve(self, reference: Reference, *, at_origin: bool = False) -> Descriptor:
        """Return the index or manifest that *reference* names now.

        Costs one HEAD where the registry says enough in its answer.

        Args:
            at_origin: ask no mirror, which may be behind.

        Raises:
            UnresolvedImage: it does not exist, or is not shown to us.
        """
        action = _resolving(reference)
        try:
            if at_origin:
                origin = self._hosts.origin(reference.host)
                return await self._resolve_at(origin, reference, action)
            return await self._anywhere(
                reference, lambda at: self._resolve_at(at, reference, action)
            )
        except HttpFault as error:
            raise _unresolved(reference, error) from error

    async def manifest(
        self, reference: Reference, descriptor: Descriptor | None = None
    ) -> tuple[Descriptor, bytes]:
        """Return the manifest or index that *descriptor*, or else *reference*, names; verified."""
        if descriptor is not None:
            action = f"pull {reference.repository}"
        else:
            action = _resolving(reference)
        try:
            return await self._anywhere(
                reference, lambda at: self._manifest_at(at, reference, descriptor, action)
            )
        except HttpFault as error:
            if descriptor is not None:
                raise
            raise _unresolved(reference, error) from error

    async def blob(
        self, reference: Reference, descriptor: Descriptor, *, limit: int = 8 << 20
    ) -> bytes:
        """Return a small blob, such as a config; verified.

        Raises:
            ContentFault: it says to be longer than *limit* bytes.
        """
        if descriptor.size > limit:
            raise ContentFault(
                f"pull {reference.repository}: blob {descriptor.digest}: "
                f"{descriptor.size} bytes, at most {limit} expected"
            )
        return await self._anywhere(
            reference,
            lambda at: download.into_memory(self._transport, at, reference, descriptor),
        )

    async def blob_size(self, reference: Reference) -> int:
        """Return the size of the blob that has the reference's digest."""
        return await self._anywhere(
            reference, lambda at: download.size_of(self._transport, at, reference)
        )

    async def pull_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        sink: BlobSink,
        progress: Progress | None = None,
    ) -> None:
        """Bring a blob into *sink*, unless it is there; verified, resumed after cuts.

        Foreign layers are asked for like others, as many registries have them; the addresses in
        their descriptors are not followed.
        """
        if sink.has(descriptor.digest):
            return
        try:
            await self._anywhere(
                reference,
                lambda at: download.into_sink(
                    self._transport, at, reference, descriptor, sink, progress
                ),
            )
        except HttpFault as error:
            if error.status != 404 or manifests.is_distributable(descriptor.media_type):
                raise
            raise HttpFault(
                f"pull {reference.repository}: foreign layer {descriptor.digest}: not in the registry",
                status=404,
                hints=["push the image with a copy of that layer, or build on another base"],
            ) from error

    def in_the_clear(self, host: str) -> str:
        """Return where a registry was found to speak without TLS; empty: it was not."""
        netloc = self._hosts.origin(host).netloc
        return netloc if self._transport.is_in_the_clear(netloc) else ""

    async def blob_exists(self, reference: Reference, descriptor: Descriptor) -> bool:
        """Whether the registry itself has a blob in this repository."""
        origin = self._hosts.origin(reference.host)
        return await upload.blob_exists(self._transport, origin, reference, descriptor)

    async def push_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        source: BlobSource,
        mount_from: Sequence[str] = (),
        progress: Progress | None = None,
        fetch: Fetch | None = None,
    ) -> Pushed:
        """Have a blob in the repository, with as little traffic as possible [OUT-12].

        Args:
            mount_from: paths of repositories on the same host that may have it.
            fetch: brings it into *source*; awaited only where it must be sent.
        """
        blob_upload = upload.Upload(
            transport=self._transport,
            endpoint=self._hosts.origin(reference.host),
            reference=reference,
            descriptor=descriptor,
            source=source,
            progress=progress,
            chunk_bytes=self._chunk_bytes,
            fetch=fetch,
        )
        return await blob_upload.run(mount_from)

    async def push_early(
        self, reference: Reference, file: GrowingFile, progress: Progress | None = None
    ) -> bool:
        """Send a blob that is still written; return whether the repository has it in the end."""
        blob_upload = EarlyUpload(
            transport=self._transport,
            endpoint=self._hosts.origin(reference.host),
            reference=reference,
            file=file,
            progress=progress,
        )
        return await blob_upload.run()

    async def push_manifest(self, reference: Reference, media_type: str, data: bytes) -> Descriptor:
        """Store *data* under the tag of *reference*, or under its digest when there is no tag."""
        digest = Digest.of(data)
        name = reference.tag or str(digest)

        request = Request(
            endpoint=self._hosts.origin(reference.host),
            method="PUT",
            repository=reference.path,
            action=f"push {reference}",
            scopes=push_scope(reference.path),
            path=f"/{reference.path}/manifests/{name}",
            headers={"Content-Type": media_type},
            body=lambda: once_only(data),
            length=len(data),
        )
        async with self._transport.open(request) as response:
            if response.status not in (200, 201, 202):
                raise self._transport.refusal(request, response)
            stored = response.headers.get("Docker-Content-Digest", digest)
            if stored != digest and stored.startswith("sha256:"):
                raise ContentFault(f"push {reference}: manifest {digest}: stored as another one")
            is_listed = "OCI-Subject" in response.headers
        if not is_listed:
            await self._tag_lists.add(reference, media_type, data)
        return Descriptor(media_type, digest, len(data))

    async def referrers(self, reference: Reference, digest: Digest) -> list[Referrer]:
        """Return the manifests that refer to the manifest *digest*, as signatures do [end-12a].

        Where the registry has no answer, a tag that clients keep has.
        """
        origin = self._hosts.origin(reference.host)
        listed = await referrers.listed(self._transport, origin, reference, digest)
        return await self._tag_lists.of(reference, digest) if listed is None else listed

    async def delete(self, reference: Reference, *, refers: bool = True) -> None:
        """Delete the manifest that *reference* has a digest of, else the tag [end-9].

        Args:
            refers: the manifest may refer to another one, whose list it then leaves.

        Raises:
            UnresolvedImage: it is not there.
            HttpFault: the registry does not do that, as many never do.
        """
        origin = self._hosts.origin(reference.host)
        has_subject = refers and reference.digest is not None
        deleted = await self._manifest_or_none(reference) if has_subject else None
        await delete.delete(self._transport, origin, reference)
        if deleted is not None:
            await self._tag_lists.drop(reference, deleted[0].media_type, deleted[1])

    async def _manifest_or_none(self, reference: Reference) -> tuple[Descriptor, bytes] | None:
        """The manifest at the registry itself, not at a mirror."""
        origin, action = self._hosts.origin(reference.host), f"pull {reference}"
        try:
            return await self._manifest_at(origin, reference, None, action)
        except HttpFault as error:
            if error.status == 404:
                return None
            raise

    async def _read_list(self, reference: Reference) -> bytes | None:
        manifest = await self._manifest_or_none(reference)
        return None if manifest is None else manifest[1]

    async def _write_list(self, reference: Reference, data: bytes) -> None:
        await self.push_manifest(reference, OCI_INDEX, data)

    async def tags(self, reference: Reference) -> list[str]:
        """Return all tags of a repository, as the registry orders them [end-8]."""
        return await listing.tags(self._transport, self._hosts.origin(reference.host), reference)

    async def search(self, host: str, term: str, limit: int) -> list[SearchResult]:
        """Return repositories of a registry that *term* finds, best first."""
        return await listing.search(self._transport, self._hosts.origin(host), term, limit)

    async def check_login(self, host: str) -> None:
        """Show ourselves at a registry's door.

        Raises:
            HttpFault: it does not let us in, or cannot be asked.
        """
        request = Request(
            endpoint=self._hosts.origin(host),
            method="GET",
            repository="",
            action=f"log in to {host}",
            scopes=Scopes(),
            path="/",
        )
        async with self._transport.open(request) as response:
            if response.status != 200:
                raise self._transport.refusal(request, response)

    async def _anywhere(self, reference: Reference, ask: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Ask the mirrors, then the origin: mirrors may help, and never harm [REG-8]."""
        for mirror in self._hosts.mirrors(reference.host):
            # It is to rest for no longer than that, though the clock be set back.
            if 0 < self._resting.get(mirror.netloc, 0.0) - self._clock.now() <= _MIRROR_REST_S:
                continue
            try:
                return await ask(mirror)
            except HttpFault as error:
                if isinstance(error, ConnectionLost) or error.status in RETRIED:
                    self._resting[mirror.netloc] = self._clock.now() + _MIRROR_REST_S
        return await ask(self._hosts.origin(reference.host))

    def _manifest_request(
        self, endpoint: Endpoint, method: str, reference: Reference, name: str, action: str
    ) -> Request:
        return Request(
            endpoint=endpoint,
            method=method,
            repository=reference.path,
            action=action,
            scopes=pull_scope(reference.path),
            path=f"/{reference.path}/manifests/{name}",
            headers={"Accept": manifests.ACCEPT},
        )

    async def _resolve_at(
        self, endpoint: Endpoint, reference: Reference, action: str
    ) -> Descriptor:
        name = reference.digest or reference.tag or "latest"
        request = self._manifest_request(endpoint, "HEAD", reference, name, action)
        async with self._transport.open(request) as response:
            if response.status in (401, 403, 404, 429):
                raise self._transport.refusal(request, response)
            known = _described(response, reference) if response.status == 200 else None
        if known is not None:
            return known
        descriptor, _ = await self._manifest_at(endpoint, reference, None, action)
        return descriptor

    async def _manifest_at(
        self,
        endpoint: Endpoint,
        reference: Reference,
        descriptor: Descriptor | None,
        action: str,
    ) -> tuple[Descriptor, bytes]:
        expected = descriptor.digest if descriptor is not None else reference.digest
        size = descriptor.size if descriptor is not None else None
        name = f"{action}: manifest"
        if size is not None and size > manifests.LIMIT_BYTES:
            raise ContentFault(
                f"{name} {expected}: {size} bytes, at most {manifests.LIMIT_BYTES} allowed"
            )
        request = self._manifest_request(
            endpoint, "GET", reference, expected or reference.tag or "latest", action
        )
        limit = manifests.LIMIT_BYTES if size is None else size
        response, data = await self._transport.fetch(request, limit)
        if response.status != 200:
            raise self._transport.refusal(request, response)
        stated = _said_digest(response)
        content_type = response.media_type
        if expected is None:
            expected = stated or Digest.of(data)
        manifests.verify(name, data, expected, size)
        media_type = manifests.media_type_of(str(reference), content_type, data)
        if descriptor is not None and descriptor.media_type != media_type:
            raise ContentFault(
                f'{name} {expected}: is "{media_type}", described as "{descriptor.media_type}"'
            )
        return descriptor or Descriptor(media_type, expected, len(data)), data


def _resolving(reference: Reference) -> str:
    return f"failed to resolve source metadata for {reference}"


def _unresolved(reference: Reference, error: HttpFault) -> Exception:
    """The wording that people and tools grep for (spec/dockerfile.md section 17)."""
    start = _resolving(reference)
    if error.status == 404:
        return UnresolvedImage(f"{start}: {reference}: not found")
    if error.status in (401, 403):
        detail = error.message.removeprefix(start + ": ")
        return UnresolvedImage(
            f"{start}: pull access denied, repository does not exist or may require "
            f"authorization: {detail}",
            hints=error.hints,
        )
    return error


def _described(response: Response, reference: Reference) -> Descriptor | None:
    """The descriptor that an answer to HEAD tells, if it tells all of it."""
    manifests.refuse_schema_1(str(reference), response.media_type)
    stated, length = _said_digest(response), response.length
    if stated is None or length is None or not manifests.is_manifest_type(response.media_type):
        return None
    if reference.digest is not None and stated != reference.digest:
        raise ContentFault(f"{_resolving(reference)}: got {stated}")
    return Descriptor(response.media_type, stated, length)


def _said_digest(response: Response) -> Digest | None:
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest", ""))
    except ValueError:
        return None
