"""Blobs going out: looked up, mounted or uploaded, in one piece or in chunks [REG-12, OUT-12]."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from enum import StrEnum

from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import DamagedBlob, InternalError
from pybuild.model.reference import Reference
from pybuild.net.http1.client import Response
from pybuild.net.http1.faults import ConnectionLost, HttpFault
from pybuild.net.http1.retries import RETRIED
from pybuild.registry.client.blobsink import BlobSource, Progress, Provable
from pybuild.registry.client.challenge import pull_scope, push_scope
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.repositoryupload import Uploading
from pybuild.registry.client.samestore import PROOF
from pybuild.registry.client.transport import Request, Transport

_PIECE_BYTES = 1 << 20
_FALLBACK_CHUNK_BYTES = 8 << 20  # for servers that find one piece too large
_MOST_MOUNT_TRIES = 3
_UPLOAD_TRIES = 5
_DONE = frozenset((200, 201, 204))
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})\Z")


Fetch = Callable[[], Awaitable[None]]


class Pushed(StrEnum):
    """The way in which a blob came to be on the other side."""

    PRESENT = "present"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


class _StartAgain(Exception):
    """An upload is lost, not the blob; the cause is the error to show when tries run out."""

    def __init__(self, error: HttpFault) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Upload(Uploading):
    """One blob on its way to one repository.

    Attributes:
        fetch: brings the blob into *source*, should it have to be sent at all.
    """

    descriptor: Descriptor
    source: BlobSource
    progress: Progress | None
    chunk_bytes: int
    fetch: Fetch | None = None

    async def run(self, mount_from: Sequence[str]) -> Pushed:
        """Bring the blob there; *mount_from* are paths of repositories on the same host."""
        store = await self.look(self.descriptor)
        if store is None:
            return Pushed.PRESENT
        location = await self._link(store)
        if not location and location is not None:
            location = await self._mount(mount_from)
        if location is None:
            return Pushed.MOUNTED
        if self.fetch is not None:
            await self.fetch()
        path = os.fspath(self.source.path(self.descriptor.digest))
        size = os.stat(path).st_size
        if size != self.descriptor.size:
            raise InternalError(
                f"blob {self.descriptor.digest}: {size} bytes stored, "
                f"{self.descriptor.size} described"
            )
        chunk_bytes = self.chunk_bytes
        for attempt in range(_UPLOAD_TRIES):
            body = FileBody(path, self)
            try:
                location = location or await self.begin()
                if chunk_bytes:
                    await self._in_chunks(location, body, chunk_bytes)
                else:
                    await self._in_one_piece(location, body)
                return Pushed.UPLOADED
            except HttpFault as error:
                if error.status == 400:
                    await asyncio.to_thread(self._compare, path, error)
                raise
            except _StartAgain as again:
                if attempt + 1 == _UPLOAD_TRIES:
                    raise again.error from again
                if again.error.status == 413 and not chunk_bytes:
                    chunk_bytes = _FALLBACK_CHUNK_BYTES
            location = ""
            await self.transport.pause(attempt)
            if await self.exists():  # perhaps only the answer was lost
                return Pushed.UPLOADED
        raise AssertionError("the last try returns or raises")

    def _compare(self, path: str, error: HttpFault) -> None:
        """Read again what was refused: the fault may be ours.

        Raises:
            DamagedBlob: the bytes are not what the digest says.
        """
        digest = self.descriptor.digest
        with open(path, "rb") as file:
            hexdigest = hashlib.file_digest(file, digest.algorithm).hexdigest()
        if hexdigest != digest.hex:
            reason = f"the store has {digest.algorithm}:{hexdigest}"
            raise DamagedBlob(f"blob {digest}: {reason}", digest=digest) from error

    async def exists(self) -> bool:
        """Whether the repository has the blob."""
        return await self.look(self.descriptor) is None

    async def _link(self, store: str) -> str | None:
        """Have a server on our own store link the blob; as `_mount`."""
        digest = self.descriptor.digest
        if not store or not isinstance(self.source, Provable) or not self.source.has(digest):
            return ""
        proof = await asyncio.to_thread(self.source.proof, store, self.reference.path, digest)
        if proof is None:
            return ""
        request = replace(
            self.request(
                "POST",
                path=f"/{self.reference.path}/blobs/uploads/",
                query=(("mount", str(digest)),),
            ),
            headers={PROOF: proof},
        )
        async with self.transport.open(request) as response:
            if response.status == 201:
                return None
            if response.status != 202:
                raise self.transport.refusal(request, response)
            return self.location_of(response)

    async def _mount(self, mount_from: Sequence[str]) -> str | None:
        """Return None when the blob got mounted, else an upload's place or ""."""
        places = [path for path in dict.fromkeys(mount_from) if path != self.reference.path]
        location = ""
        for place in places[:_MOST_MOUNT_TRIES]:
            request = self.request(
                "POST",
                path=f"/{self.reference.path}/blobs/uploads/",
                query=(("mount", str(self.descriptor.digest)), ("from", place)),
                scopes=push_scope(self.reference.path, place),
            )
            try:
                async with self.transport.open(request) as response:
                    if response.status == 201:
                        return None
                    begun = self.location_of(response) if response.status == 202 else ""
            except HttpFault as error:
                if error.status not in (401, 403, 404):
                    raise
                continue  # we may push here, yet not read there
            if begun and location:
                await self.cancel(location)
            location = begun or location
        return location

    async def _in_one_piece(self, location: str, body: FileBody) -> None:
        request = replace(
            self.request("PUT", url=self.finishing(location, self.descriptor.digest)),
            headers={"Content-Type": "application/octet-stream"},
            body=lambda: body.read(0, self.descriptor.size),
            length=self.descriptor.size,
            retry=False,
        )
        await self._finish(request)

    async def _finish(self, request: Request) -> None:
        try:
            async with self.transport.open(request) as response:
                if response.status in _DONE:
                    self._same_digest(response)
                    return
                error = self.transport.refusal(request, response)
        except ConnectionLost as cut:
            raise _StartAgain(cut) from cut
        if error.status in RETRIED or error.status in (404, 413, 416):
            raise _StartAgain(error)
        raise error

    async def _in_chunks(self, location: str, body: FileBody, chunk_bytes: int) -> None:
        offset, size, failures = 0, self.descriptor.size, 0
        while offset < size:
            length = min(chunk_bytes, size - offset)
            request = replace(
                self.request("PATCH", url=location),
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Range": f"{offset}-{offset + length - 1}",
                },
                body=lambda offset=offset, length=length: body.read(offset, length),  # type: ignore[misc]
                length=length,
                retry=False,
            )
            try:
                async with self.transport.open(request) as response:
                    if response.status not in (202, 204):
                        raise self.transport.refusal(request, response)
                    location = self.location_of(response)
                    minimum = response.headers.get("OCI-Chunk-Min-Length", "")
                    if minimum.isascii() and minimum.isdigit():
                        chunk_bytes = max(chunk_bytes, int(minimum[:12]))
                    offset = self._reached(response, offset + length)
                    failures = 0
            except HttpFault as error:
                failures += 1
                # 404: it is gone, or a request that was cut is still being written behind our back.
                resumable = isinstance(error, ConnectionLost) or error.status in {
                    *RETRIED,
                    404,
                    416,
                }
                if not resumable:
                    raise
                if failures >= _UPLOAD_TRIES:
                    raise _StartAgain(error) from error
                await self.transport.pause(failures)
                location, offset = await self._status(location, error)
        await self._finish(
            self.request("PUT", url=self.finishing(location, self.descriptor.digest), retry=False)
        )

    async def _status(self, location: str, cause: HttpFault) -> tuple[str, int]:
        """Ask how far an upload has come [end-13]."""
        request = self.request("GET", url=location)
        try:
            async with self.transport.open(request) as response:
                if response.status not in (202, 204):
                    raise _StartAgain(cause)
                place = self.location_of(response) if "Location" in response.headers else location
                return place, self._reached(response, 0)
        except HttpFault:
            raise _StartAgain(cause) from cause

    def _reached(self, response: Response, otherwise: int) -> int:
        text = response.headers.get("Range", "")
        match = _RANGE.match(text)
        if match is None:
            return otherwise
        # "0-0" is what servers say of an upload without any byte, too.
        count = int(match[1]) + 1 if int(match[1]) else min(otherwise, 1)
        if count > self.descriptor.size:
            raise ContentFault(f"{self.action}: upload reached byte {count} of fewer")
        return count

    def _same_digest(self, response: Response) -> None:
        stored = response.headers.get("Docker-Content-Digest")
        if (
            stored
            and stored != self.descriptor.digest
            and stored.startswith(self.descriptor.digest.algorithm + ":")
        ):
            raise ContentFault(
                f"{self.action}: blob {self.descriptor.digest}: stored under another digest"
            )


class FileBody:
    """A file's bytes as request bodies."""

    def __init__(self, path: str, upload: Upload) -> None:
        self._path = path
        self._upload = upload

    async def read(self, offset: int, length: int) -> AsyncIterator[bytes]:
        """Yield *length* bytes from *offset*; each reader has its own file.

        A refused request may still be read from for a moment, so readers must not share one.
        """
        digest, size = str(self._upload.descriptor.digest), self._upload.descriptor.size
        end = offset + length
        # Opened here and not in a thread: who is cancelled meanwhile would never see the file.
        with open(self._path, "rb") as file:  # noqa: ASYNC230
            file.seek(offset)
            while offset < end:
                count = min(_PIECE_BYTES, end - offset)
                data = await asyncio.to_thread(file.read, count)
                if len(data) != count:
                    raise InternalError(f"blob {digest}: the stored file shrank")
                offset += count
                yield data
                if self._upload.progress is not None:
                    self._upload.progress(digest, offset, size)


async def blob_exists(
    transport: Transport, endpoint: Endpoint, reference: Reference, descriptor: Descriptor
) -> bool:
    """Whether a repository has a blob, asking for no more than reading it."""
    request = Request(
        endpoint=endpoint,
        method="HEAD",
        repository=reference.path,
        action=f"pull {reference.repository}",
        scopes=pull_scope(reference.path),
        path=f"/{reference.path}/blobs/{descriptor.digest}",
    )
    async with transport.open(request) as response:
        if response.status == 200:
            return response.length in (None, descriptor.size)
        if response.status == 404:
            return False
        raise transport.refusal(request, response)
