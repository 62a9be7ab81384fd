"""Blobs: fetched, whole or in ranges, looked up and unlinked [end-2, end-10]."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pybuild.registry.server.asked import Asked
from pybuild.registry.server.refusal import blob_unknown

OCTETS = "application/octet-stream"


async def get(asked: Asked) -> web.StreamResponse:
    """Answer GET and HEAD."""
    digest, repository = asked.digest, asked.repository

    def find() -> bool:
        if not repository.has_blob(digest):
            return False
        # Whoever hears that it is here will not push it: it must stay for a while.
        repository.use_blob(digest)
        return True

    if not await asyncio.to_thread(find):
        raise blob_unknown(digest)
    headers = {
        "Content-Type": OCTETS,
        "Docker-Content-Digest": digest,
        "Cache-Control": "max-age=31536000, immutable",
    }
    return web.FileResponse(asked.hosting.store.blobs.path(digest), headers=headers)


async def delete(asked: Asked) -> web.StreamResponse:
    """Take a blob out of the repository; the store's bytes go when nothing needs them."""
    digest, repository = asked.digest, asked.repository
    if not await asyncio.to_thread(repository.unlink_blob, digest):
        raise blob_unknown(digest)
    return web.Response(status=202)


def location(name: str, digest: str) -> str:
    """Return where a blob can be had; relative, as nobody knows what proxies stand before us."""
    return f"/v2/{name}/blobs/{digest}"
