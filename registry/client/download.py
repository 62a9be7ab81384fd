"""Blobs coming in: verified while they stream, resumed where they were cut [REG-11]."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial

from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import EnvironmentFault
from pybuild.model.reference import Reference
from pybuild.net.http1.client import Response
from pybuild.net.http1.faults import ConnectionLost
from pybuild.net.tasks import finish_in
from pybuild.registry.client import manifests
from pybuild.registry.client.blobsink import BlobSink, Progress
from pybuild.registry.client.challenge import pull_scope
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.transport import Request, Transport

_BATCH_BYTES = 1 << 20
_ENOUGH_BYTES = 64 << 10  # a try that brought this much was not in vain
_MOST_TRIES = 64
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z")

Take = Callable[[bytes], Awaitable[None]]


async def into_sink(
    transport: Transport,
    endpoint: Endpoint,
    reference: Reference,
    descriptor: Descriptor,
    sink: BlobSink,
    progress: Progress | None,
) -> None:
    """Stream a blob into *sink*.

    Raises:
        HttpFault: it could not be had; ContentFault: it is not what its descriptor says.
    """
    with sink.writer(descriptor.digest, descriptor.size) as writer:

        async def take(data: bytes) -> None:
            await finish_in(None, partial(writer.write, data))

        await stream(transport, endpoint, reference, descriptor, take, progress)
        try:
            # The writer has hashed what it wrote; a second hash here would cost as much again.
            await finish_in(None, writer.commit)
        except EnvironmentFault as error:
            raise ContentFault(f"{_action(reference)}: {error.message}") from error


async def into_memory(
    transport: Transport, endpoint: Endpoint, reference: Reference, descriptor: Descriptor
) -> bytes:
    """Return a blob; the caller has checked that its size is reasonable."""
    parts = bytearray()

    async def take(data: bytes) -> None:
        parts.extend(data)

    await stream(transport, endpoint, reference, descriptor, take, None)
    data = bytes(parts)
    manifests.verify(f"{_action(reference)}: blob", data, descriptor.digest, descriptor.size)
    return data


async def size_of(transport: Transport, endpoint: Endpoint, reference: Reference) -> int:
    """Return the size of the blob that has the digest of *reference*.

    Raises:
        HttpFault: it could not be had; ContentFault: its size is not said.
    """
    request = Request(
        endpoint=endpoint,
        method="HEAD",
        repository=reference.path,
        action=_action(reference),
        scopes=pull_scope(reference.path),
        path=f"/{reference.path}/blobs/{reference.digest}",
    )
    async with transport.open(request) as response:
        if response.status != 200:
            raise transport.refusal(request, response)
        if response.length is None:
            raise ContentFault(f"{request.action}: blob {reference.digest}: of no stated size")
        return response.length


async def stream(
    transport: Transport,
    endpoint: Endpoint,
    reference: Reference,
    descriptor: Descriptor,
    take: Take,
    progress: Progress | None,
) -> None:
    """Give a blob's bytes to *take*, in order, each once, exactly as many as it has.

    Their digest is for the taker to check.
    """
    digest, size = descriptor.digest, descriptor.size
    action = _action(reference)
    received, batch = 0, bytearray()

    async def flush() -> None:
        nonlocal batch
        data, batch = bytes(batch), bytearray()
        await take(data)
        if progress is not None:
            progress(str(digest), received, size)

    in_vain = 0
    for attempt in range(_MOST_TRIES):
        start = received
        request = Request(
            endpoint=endpoint,
            method="GET",
            repository=reference.path,
            action=action,
            scopes=pull_scope(reference.path),
            path=f"/{reference.path}/blobs/{digest}",
            headers={"Range": f"bytes={received}-"} if received else {},
        )
        try:
            async with transport.open(request) as response:
                surplus = _offered(transport, request, response, descriptor, received)
                async for data in response.chunks():
                    if surplus:  # a server without ranges begins anew: skip what is here
                        skipped = min(surplus, len(data))
                        surplus -= skipped
                        data = data[skipped:]
                    received += len(data)
                    if received > size:
                        raise ContentFault(f"{action}: blob {digest}: more than {size} bytes")
                    batch += data
                    if len(batch) >= _BATCH_BYTES:
                        await flush()
        except ConnectionLost as error:
            cut = ConnectionLost(
                f"{action}: blob {digest}: {error.message.removeprefix(action + ': ')} "
                f"after {received} of {size} bytes"
            )
        else:
            if received == size:
                break
            cut = ConnectionLost(f"{action}: blob {digest}: ends after {received} of {size} bytes")
        in_vain = 0 if received - start >= _ENOUGH_BYTES else in_vain + 1
        if in_vain >= transport.limits.attempts or attempt + 1 == _MOST_TRIES:
            raise cut
        await transport.pause(in_vain)
    if batch or not size:
        await flush()


def _action(reference: Reference) -> str:
    return f"pull {reference.repository}"


def _offered(
    transport: Transport,
    request: Request,
    response: Response,
    descriptor: Descriptor,
    received: int,
) -> int:
    """Check an answer's head; return how many of its bytes are here already."""
    name = f"{request.action}: blob {descriptor.digest}"
    if response.status == 206:
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        whole = ("*", str(descriptor.size))
        if not received or match is None or int(match[1]) != received or match[3] not in whole:
            raise ContentFault(f"{name}: got another range than was asked for")
        return 0
    if response.status != 200:
        raise transport.refusal(request, response)
    encoding = response.headers.get("Content-Encoding", "identity")
    if response.length not in (None, descriptor.size) and encoding == "identity":
        raise ContentFault(f"{name}: {response.length} of {descriptor.size} bytes offered")
    return received
