"""Blobs: fetched, whole or in ranges, looked up and unlinked [end-2, end-10]."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from pybuild.model.errors import PybuildError
from pybuild.registry.server.asked import Asked
from pybuild.registry.server.download import Download
from pybuild.registry.server.refusal import blob_unknown

OCTETS = "application/octet-stream"


async def get(asked: Asked) -> web.StreamResponse:
    """Answer GET and HEAD."""
    digest, repository = asked.digest, asked.repository

    upstreams = asked.hosting.upstreams
    download = await upstreams.blob(asked.call) if upstreams is not None else None
    headers = {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": digest,
        "Cache-Control": "max-age=31536000, immutable",
    }
    if download is not None:
        return await _passed_on(download, asked, headers)

    # Whoever hears that it is here will not push it: it must stay for a while.
    if not await asyncio.to_thread(repository.use_blob, digest):
        raise blob_unknown(digest)
    return web.FileResponse(asked.hosting.store.blobs.path(digest), headers=headers)


async def _passed_on(
    download: Download, asked: Asked, headers: dict[str, str]
) -> web.StreamResponse:
    """Answer with a blob that is on its way here."""
    request = asked.request
    if request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": str(download.descriptor.size)})
    if "Range" in request.headers:
        await download.finished()
        path = asked.hosting.store.blobs.path(download.descriptor.digest)
        return web.FileResponse(path, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = download.descriptor.size
    await response.prepare(request)
    try:
        async for piece in download.follow():
            await response.write(piece)
    except PybuildError as error:
        # The head is out, so all that is left to say no with is the connection.
        sys.stderr.write(f"error: GET {request.path}: {error.message}\n")
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


async def delete(asked: Asked) -> web.StreamResponse:
    """Take a blob out of the repository; the store's bytes go when nothing needs them."""
    digest, repository = asked.digest, asked.repository
    if not await asyncio.to_thread(repository.unlink_blob, digest):
        raise blob_unknown(digest)
    return web.Response(status=202)


def location(name: str, digest: str) -> str:
    """Return where a blob can be had; relative, as nobody knows what proxies stand before us."""
    return f"/v2/{name}/blobs/{digest}"
