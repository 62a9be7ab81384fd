"""Manifests and tags: fetched, looked up, pushed and deleted [end-3, end-7, end-9]."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pybuild.cache.repositories.repositories import ManifestEntry, Repository, is_tag
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from pybuild.registry.server import pushedmanifest
from pybuild.registry.server.body import whole
from pybuild.registry.server.exchange import Exchange
from pybuild.registry.server.refusal import (
    Refusal,
    RefusalCode,
    manifest_unknown,
    name_unknown,
)
from pybuild.registry.server.routes import RegistryCall, RouteKind

_MOST_TAGS = 100


async def get(exchange: Exchange) -> web.StreamResponse:
    """Answer GET and HEAD: the exact bytes that were pushed.

    A client that does not list the type among those it accepts gets it all the same, as HTTP
    allows: it can say better than we that it does not know it.
    """
    call, repository = exchange.call, exchange.repository
    if exchange.hosting.upstreams is not None:
        await exchange.hosting.upstreams.manifest(call)

    def find() -> tuple[ManifestEntry, bytes] | None:
        entry = _entry(repository, call)
        if entry is None:
            return None
        try:
            return entry, exchange.hosting.store.blobs.read(entry.descriptor.digest)
        except BlobMissing:
            return None

    manifest = await asyncio.to_thread(find)
    if manifest is None:
        raise manifest_unknown(call.tag or str(call.digest))
    entry, data = manifest
    digest = entry.descriptor.digest
    headers = {
        "Content-Type": entry.descriptor.media_type,
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
    }
    if any(etag.value in (digest, "*") for etag in exchange.request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, headers=headers)


async def put(exchange: Exchange) -> web.StreamResponse:
    """Take a manifest whose content is here already."""
    hosting, call, request = exchange.hosting, exchange.call, exchange.request
    limit = hosting.settings.limits.manifest_bytes
    async with hosting.transfer(exchange.caller.name):
        data = await whole(request, hosting.settings.limits, limit, "the manifest")
    hosting.metrics.received_bytes += len(data)
    tags = _tags(call, request)
    document, entry = pushedmanifest.read(
        data, request.headers.get("Content-Type", ""), call.digest
    )
    repository = exchange.repository
    digest = entry.descriptor.digest

    def keep() -> None:
        def blob_size(digest: Digest) -> int | None:
            # What is used now is not taken away before the manifest holds it.
            return hosting.store.blobs.size(digest) if repository.use_blob(digest) else None

        def manifest_size(digest: Digest) -> int | None:
            known = repository.manifest(digest)
            return known.descriptor.size if known else None

        pushedmanifest.check_content(document, blob_size, manifest_size)
        with hosting.store.leases.create() as lease:
            with hosting.store.blobs.writer(digest, len(data), lease=lease) as writer:
                writer.write(data)
                writer.commit()
            repository.put_manifest(entry, tags, pushedmanifest.children(document))

    try:
        await asyncio.shield(asyncio.to_thread(keep))
    except BlobMissing as error:
        message = f"{error.digest} has just been deleted"
        raise Refusal(400, RefusalCode.MANIFEST_BLOB_UNKNOWN, message) from error
    headers = {
        "Location": f"/v2/{call.name}/manifests/{call.tag or digest}",
        "Docker-Content-Digest": digest,
    }
    if entry.subject is not None:
        headers["OCI-Subject"] = entry.subject
    if call.digest is not None and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return web.Response(status=201, headers=headers)


async def delete(exchange: Exchange) -> web.StreamResponse:
    """Delete a tag, or a manifest with all its tags."""
    call, repository = exchange.call, exchange.repository

    def forget() -> bool:
        if not repository.exists():
            raise name_unknown(call.name)
        if call.digest is not None:
            return repository.delete_manifest(call.digest)
        return repository.untag(call.tag)

    if not await asyncio.to_thread(forget):
        raise manifest_unknown(call.tag or str(call.digest))
    return web.Response(status=202)


def _entry(repository: Repository, call: RegistryCall) -> ManifestEntry | None:
    assert call.kind is RouteKind.MANIFEST
    if call.digest is not None:
        return repository.manifest(call.digest)
    named = repository.tag(call.tag)
    return repository.manifest(named.digest) if named else None


def _tags(call: RegistryCall, request: web.BaseRequest) -> list[str]:
    if call.tag:
        return [call.tag]
    tags = list(dict.fromkeys(request.query.getall("tag", [])))
    for tag in tags:
        if not is_tag(tag):
            raise Refusal(400, RefusalCode.MANIFEST_INVALID, f'"{tag[:200]}" cannot be a tag')
    if len(tags) > _MOST_TAGS:
        raise Refusal(
            414, RefusalCode.MANIFEST_INVALID, f"more than {_MOST_TAGS} tags in one request"
        )
    return tags
