"""A blob that is sent while it is written, before anybody knows its digest.

Its bytes go into an upload as they come, and the digest is said at the end, as Docker's engine pushes.
Had the repository the blob already, that is known only then: no more was sent in vain than went over
the wire while the blob was made. Whatever goes wrong is given up here and nobody's failure: the blob
is pushed as others are, which tells what is wrong.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import InternalError
from pybuild.net.http1.faults import HttpFault
from pybuild.net.tasks import finish_in
from pybuild.registry.client.blobsink import Progress
from pybuild.registry.client.repositoryupload import Uploading
from pybuild.registry.client.samestore import STORE

_PIECE_BYTES = 1 << 20


class GrowingFile:
    """A blob's file that is still written to, as the body of a request. Close it."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._reading = threading.Lock()
        self._changed = asyncio.Event()
        self._is_stopped = False
        self._whole: asyncio.Future[Descriptor] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Let bodies end here, also those that nobody waits for any more; idempotent.

        A request that failed goes on reading for a moment, and what gets the number of our
        descriptor next may be another file.
        """
        self.stop()
        with self._reading:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def grown(self) -> None:
        """Wake the senders: the file has grown."""
        self._changed.set()

    def complete(self, descriptor: Descriptor) -> None:
        """Complete the upload; *descriptor* is the finished blob."""
        if not self._whole.done():
            self._whole.set_result(descriptor)
        self._changed.set()

    def stop(self) -> None:
        """Let bodies end here: nobody needs the rest."""
        self._is_stopped = True
        self._changed.set()

    async def whole(self) -> Descriptor:
        """Wait until it is complete."""
        return await asyncio.shield(self._whole)

    async def read(self, progress: Progress | None) -> AsyncIterator[bytes]:
        """Yield its bytes from the beginning, as they come; *progress* is told once all are known."""
        offset = 0
        while not self._is_stopped:
            self._changed.clear()
            known = self._whole.result() if self._whole.done() else None
            data = await finish_in(None, partial(self._read_at, offset))
            if self._is_stopped:
                return
            if data:
                offset += len(data)
                yield data
                if known is not None and progress is not None:
                    progress(str(known.digest), offset, known.size)
            elif known is None:
                await self._changed.wait()
            elif offset == known.size:
                return
            else:
                raise InternalError(f"blob {known.digest}: {offset} of {known.size} bytes written")

    def _read_at(self, offset: int) -> bytes:
        with self._reading:
            return os.pread(self._fd, _PIECE_BYTES, offset) if self._fd >= 0 else b""


@dataclass(frozen=True, slots=True)
class EarlyUpload(Uploading):
    """A blob on its way to a repository while it is written."""

    file: GrowingFile
    progress: Progress | None

    async def run(self) -> bool:
        """Send the blob; return whether the repository has it in the end."""
        with suppress(HttpFault):
            location = await self._begin_at_upstream()
            if location:
                return await self._run(location)
        return False

    async def _begin_at_upstream(self) -> str:
        """Begin an upload; "" at a server on a store of ours, which may just link the blob."""
        request = self.request("POST", path=f"/{self.reference.path}/blobs/uploads/")
        async with self.transport.open(request) as response:
            if response.status != 202:
                raise self.transport.refusal(request, response)
            location = self.location_of(response)
            if not response.headers.get(STORE):
                return location
        await self.cancel(location)
        return ""

    async def _run(self, location: str) -> bool:
        sending = asyncio.create_task(self._send(location))
        try:
            descriptor = await self.file.whole()
            if await self.look(descriptor) is None:
                # Ended, not cut: what was cut cannot be cancelled at Docker's registry.
                self.file.stop()
                await self.cancel(await sending)
            else:
                await self._finish(await sending, descriptor)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.exception()  # seen
        return True

    async def _send(self, location: str) -> str:
        """Send all there is and will be; return where to go on."""
        request = replace(
            self.request("PATCH", url=location, retry=False),
            headers={"Content-Type": "application/octet-stream"},
            body=lambda: self.file.read(self.progress),
            length=None,
        )
        async with self.transport.open(request) as response:
            if response.status not in (202, 204):
                raise self.transport.refusal(request, response)
            return self.location_of(response)

    async def _finish(self, location: str, descriptor: Descriptor) -> None:
        url = self.finishing(location, descriptor.digest)
        request = self.request("PUT", url=url, retry=False)
        async with self.transport.open(request) as response:
            if response.status not in (200, 201, 204):
                raise self.transport.refusal(request, response)
