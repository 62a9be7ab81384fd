"""Uploads: begun, continued, looked up, ended and given up; and blobs mounted instead [end-4..6, end-11]."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pybuild.cache.blobs import BlobMissing
from pybuild.model.digest import Digest
from pybuild.registry.server import ranges
from pybuild.registry.server.blobs import location
from pybuild.registry.server.body import pieces, too_large
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.refusal import Code, Refusal
from pybuild.registry.server.routes import Call, parse_digest
from pybuild.registry.server.spool import OpenUpload

_ALGORITHMS = ("sha256", "sha512")


async def begin(hosting: Hosting, call: Call, request: web.Request) -> web.StreamResponse:
    """Answer POST: mount a blob, take it whole, or begin an upload."""
    query = request.query
    if "mount" in query:
        digest = parse_digest(query["mount"])
        if await _mount(hosting, call, query.get("from", ""), digest):
            return _created(call.name, digest)
    algorithm = query.get("digest-algorithm", "sha256")
    whole = parse_digest(query["digest"]) if "digest" in query else None
    if algorithm not in _ALGORITHMS:
        raise Refusal(400, Code.DIGEST_INVALID, f'digest algorithm "{algorithm[:50]}" is not known')
    repository = hosting.repository(call.name)
    algorithm = whole.algorithm if whole else algorithm
    id = await asyncio.to_thread(hosting.spool.begin, repository, algorithm)
    if whole is None:
        return web.Response(status=202, headers=_progress(call.name, id, 0))
    try:
        return await _end(hosting, call.name, id, whole, request)
    except BaseException:
        # The client never learned the id, so nobody can go on from here.
        try:
            await asyncio.to_thread(hosting.spool.cancel, id, repository)
        except Refusal:
            pass  # it has gone already
        raise


async def _mount(hosting: Hosting, call: Call, source: str, digest: Digest) -> bool:
    def link() -> bool:
        repositories = hosting.store.repositories
        try:
            if not source:
                named = any(other.has_blob(digest) for other in repositories)
            else:
                named = repositories[source].has_blob(digest)
            if not named:
                return False
            repositories[call.name].link_blob(digest)
        except (BlobMissing, ValueError):
            return False
        return True

    return await asyncio.to_thread(link)


async def status(hosting: Hosting, call: Call, request: web.Request) -> web.StreamResponse:
    """Answer GET: how far it has come."""
    repository = hosting.repository(call.name)
    offset = await asyncio.to_thread(hosting.spool.reached, call.id, repository)
    return web.Response(status=204, headers=_progress(call.name, call.id, offset))


async def append(hosting: Hosting, call: Call, request: web.Request) -> web.StreamResponse:
    """Answer PATCH: the next chunk."""
    repository = hosting.repository(call.name)
    async with hosting.transfer():
        with hosting.spool.open(call.id, repository) as upload:
            await _take(hosting, upload, request)
            offset = upload.offset
    return web.Response(status=202, headers=_progress(call.name, call.id, offset))


async def finish(hosting: Hosting, call: Call, request: web.Request) -> web.StreamResponse:
    """Answer PUT: the last chunk, if there is one, and what all of it must be."""
    if "digest" not in request.query:
        raise Refusal(400, Code.DIGEST_INVALID, "the query parameter digest is missing")
    digest = parse_digest(request.query["digest"])
    return await _end(hosting, call.name, call.id, digest, request)


async def cancel(hosting: Hosting, call: Call, request: web.Request) -> web.StreamResponse:
    """Answer DELETE."""
    await asyncio.to_thread(hosting.spool.cancel, call.id, hosting.repository(call.name))
    return web.Response(status=204)


async def _end(
    hosting: Hosting, name: str, id: str, digest: Digest, request: web.Request
) -> web.StreamResponse:
    repository = hosting.repository(name)
    async with hosting.transfer():
        with hosting.spool.open(id, repository) as upload:
            await _take(hosting, upload, request)
            # Not to be interrupted: a thread that renames cannot be called back.
            await asyncio.shield(asyncio.to_thread(upload.commit, repository, digest))
    return _created(name, digest)


async def _take(hosting: Hosting, upload: OpenUpload, request: web.Request) -> None:
    """Append the request's body to *upload*, if it is the part that comes next.

    Raises:
        Refusal: it is another part, or not as long as it says; nothing of it stays then.
    """
    limits = hosting.settings.limits
    chunk = ranges.chunk_of(request.headers.get("Content-Range", ""), request.content_length)
    start = upload.offset
    if chunk.start is not None and chunk.start != start:
        raise Refusal(
            416,
            Code.BLOB_UPLOAD_INVALID,
            f"the chunk begins at byte {chunk.start}, the upload is at byte {start}",
            {"Range": ranges.reached(start)},
        )
    most = limits.blob_bytes or None
    if most is not None and start + (chunk.length or 0) > most:
        raise too_large("the blob", most)
    async for piece in pieces(request, limits):
        end = upload.offset + len(piece)
        if chunk.length is not None and end - start > chunk.length:
            upload.back_to(start)
            raise Refusal(400, Code.SIZE_INVALID, f"more than {chunk.length} bytes came")
        if most is not None and end > most:
            upload.back_to(start)
            raise too_large("the blob", most)
        await asyncio.to_thread(upload.write, piece)
    if chunk.length is not None and upload.offset - start != chunk.length:
        came = upload.offset - start
        upload.back_to(start)
        raise Refusal(400, Code.SIZE_INVALID, f"{came} of {chunk.length} bytes came")


def _progress(name: str, id: str, offset: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{name}/blobs/uploads/{id}",
        "Range": ranges.reached(offset),
        "Docker-Upload-UUID": id,
    }


def _created(name: str, digest: Digest) -> web.Response:
    headers = {"Location": location(name, digest), "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)
