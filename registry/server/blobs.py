"""Blobs: fetched, whole or in ranges, looked up and unlinked [end-2, end-10]."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from pybuild.model.errors import PybuildError
from pybuild.model.printable import in_log
from pybuild.registry.server.download import Download
from pybuild.registry.server.exchange import Exchange
from pybuild.registry.server.refusal import blob_unknown

OCTETS = "application/octet-stream"


async def get(exchange: Exchange) -> web.StreamResponse:
    """Answer GET and HEAD."""
    digest, repository = exchange.digest, exchange.repository

    upstreams = exchange.hosting.upstreams
    download = await upstreams.blob(exchange.call) if upstreams is not None else None
    headers = {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": digest,
        "Cache-Control": "max-age=31536000, immutable",
    }
    if download is not None:
        return await _passed_on(download, exchange, headers)

    # Whoever hears that it is here will not push it: it must stay for a while.
    if not await asyncio.to_thread(repository.use_blob, digest):
        raise blob_unknown(digest)
    return web.FileResponse(exchange.hosting.store.blobs.path(digest), headers=headers)


async def _passed_on(
    download: Download, exchange: Exchange, headers: dict[str, str]
) -> web.StreamResponse:
    """Answer with a blob that is on its way here."""
    request = exchange.request
    if request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": str(download.descriptor.size)})
    if "Range" in request.headers:
        await download.finished()
        path = exchange.hosting.store.blobs.path(download.descriptor.digest)
        return web.FileResponse(path, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = download.descriptor.size
    await response.prepare(request)
    try:
        async for piece in download.follow():
            await response.write(piece)
    except PybuildError as error:
        # The head is out, so all that is left to say no with is the connection.
        sys.stderr.write(f"error: GET {in_log(request.path)}: {in_log(error.message)}\n")
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


async def delete(exchange: Exchange) -> web.StreamResponse:
    """Take a blob out of the repository; the store's bytes go when nothing needs them."""
    digest, repository = exchange.digest, exchange.repository
    if not await asyncio.to_thread(repository.unlink_blob, digest):
        raise blob_unknown(digest)
    return web.Response(status=202)


def location(name: str, digest: str) -> str:
    """Return the URL of a blob; relative, as nobody knows which proxies stand before us."""
    return f"/v2/{name}/blobs/{digest}"
