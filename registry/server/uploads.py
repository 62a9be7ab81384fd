"""Uploads: begun, continued, looked up, ended and given up; and blobs mounted instead [end-4..6, end-11]."""

from __future__ import annotations

import asyncio
import hmac

from aiohttp import web

from pybuild.cache.content.storekey import proof
from pybuild.cache.repositories.repositories import is_name
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from pybuild.registry.client.samestore import PROOF
from pybuild.registry.server import ranges
from pybuild.registry.server.blobs import location
from pybuild.registry.server.body import pieces, too_large
from pybuild.registry.server.exchange import Exchange
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.routes import Permission, parse_digest
from pybuild.registry.server.spool import OpenUpload

_ALGORITHMS = ("sha256", "sha512")


async def begin(exchange: Exchange) -> web.StreamResponse:
    """Answer POST: mount a blob, take it whole, or begin an upload."""
    call, query, spool = exchange.call, exchange.request.query, exchange.hosting.spool
    if "mount" in query:
        digest = parse_digest(query["mount"])
        if await asyncio.to_thread(_link, exchange, digest):
            return _created(call.name, digest)
        if await asyncio.to_thread(_mount, exchange, query.get("from", ""), digest):
            return _created(call.name, digest)
    algorithm = query.get("digest-algorithm", "sha256")
    whole = parse_digest(query["digest"]) if "digest" in query else None
    if algorithm not in _ALGORITHMS:
        raise Refusal(
            400, RefusalCode.DIGEST_INVALID, f'digest algorithm "{algorithm[:50]}" is not known'
        )
    repository = exchange.repository
    algorithm = whole.algorithm if whole else algorithm
    id = await asyncio.to_thread(spool.begin, repository, algorithm, exchange.caller.name)
    if whole is None:
        return web.Response(status=202, headers=_progress(call.name, id, 0))
    try:
        return await _end(exchange, id, whole)
    except BaseException:
        # The client never learned the id, so nobody can go on from here.
        try:
            await asyncio.to_thread(spool.cancel, id, repository)
        except Refusal:
            pass  # it has gone already
        raise


def _link(exchange: Exchange, digest: Digest) -> bool:
    """Link a blob of the store for a caller who proves to have the same store."""
    given = exchange.request.headers.get(PROOF, "")
    hosting, name = exchange.hosting, exchange.call.name
    # Bytes: only those may be compared so where somebody may send anything.
    if not hmac.compare_digest(given.encode(), proof(hosting.key, name, digest).encode()):
        return False
    try:
        with hosting.store.leases.create() as lease:
            lease.add("blob", digest)
            exchange.repository.link_blob(digest)
    except BlobMissing:
        return False
    hosting.metrics.linked["store",] += 1
    return True


def _mount(exchange: Exchange, source: str, digest: Digest) -> bool:
    """Link a blob that another repository has, if the caller may have it from there."""
    repositories = exchange.hosting.store.repositories
    access = exchange.hosting.settings.access
    names = [source] if source else repositories.names()
    for name in names:
        if not is_name(name) or not access.permits(exchange.caller, name, Permission.PULL):
            continue
        if repositories[name].has_blob(digest):
            try:
                exchange.repository.link_blob(digest)
            except BlobMissing:
                return False
            exchange.hosting.metrics.linked["mount",] += 1
            return True
    return False


async def status(exchange: Exchange) -> web.StreamResponse:
    """Answer GET: how far it has come."""
    call = exchange.call
    offset = await asyncio.to_thread(exchange.hosting.spool.reached, call.id, exchange.repository)
    return web.Response(status=204, headers=_progress(call.name, call.id, offset))


async def append(exchange: Exchange) -> web.StreamResponse:
    """Answer PATCH: the next chunk."""
    hosting, call = exchange.hosting, exchange.call
    async with hosting.transfer(exchange.caller.name):
        with hosting.spool.open(call.id, exchange.repository) as upload:
            await _take(hosting, upload, exchange.request)
            offset = upload.offset
    return web.Response(status=202, headers=_progress(call.name, call.id, offset))


async def finish(exchange: Exchange) -> web.StreamResponse:
    """Answer PUT: the last chunk, if there is one, and the digest of the whole."""
    query = exchange.request.query
    if "digest" not in query:
        raise Refusal(400, RefusalCode.DIGEST_INVALID, "the query parameter digest is missing")
    return await _end(exchange, exchange.call.id, parse_digest(query["digest"]))


async def cancel(exchange: Exchange) -> web.StreamResponse:
    """Answer DELETE."""
    await asyncio.to_thread(exchange.hosting.spool.cancel, exchange.call.id, exchange.repository)
    return web.Response(status=204)


async def _end(exchange: Exchange, id: str, digest: Digest) -> web.StreamResponse:
    hosting, repository = exchange.hosting, exchange.repository
    async with hosting.transfer(exchange.caller.name):
        with hosting.spool.open(id, repository) as upload:
            await _take(hosting, upload, exchange.request)
            # Not to be interrupted: a thread that renames cannot be called back.
            await asyncio.shield(asyncio.to_thread(upload.commit, repository, digest))
    return _created(repository.name, digest)


async def _take(hosting: Hosting, upload: OpenUpload, request: web.BaseRequest) -> None:
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
            RefusalCode.BLOB_UPLOAD_INVALID,
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
            raise Refusal(400, RefusalCode.SIZE_INVALID, f"more than {chunk.length} bytes came")
        if most is not None and end > most:
            upload.back_to(start)
            raise too_large("the blob", most)
        hosting.metrics.received_bytes += len(piece)
        await asyncio.to_thread(upload.write, piece)
    if chunk.length is not None and upload.offset - start != chunk.length:
        came = upload.offset - start
        upload.back_to(start)
        raise Refusal(400, RefusalCode.SIZE_INVALID, f"{came} of {chunk.length} bytes came")


def _progress(name: str, id: str, offset: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{name}/blobs/uploads/{id}",
        "Range": ranges.reached(offset),
        "Docker-Upload-UUID": id,
    }


def _created(name: str, digest: Digest) -> web.Response:
    headers = {"Location": location(name, digest), "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)
