"""Lists of this server: repositories, tags, and referrers of a manifest [end-8, end-12]."""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from pybuild.cache.repositories.repositories import ManifestEntry
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import OCI_INDEX
from pybuild.registry.server.exchange import Exchange
from pybuild.registry.server.refusal import Refusal, RefusalCode, name_unknown
from pybuild.registry.server.routes import Permission

_MOST_REFERRERS = 1000


async def base(exchange: Exchange) -> web.StreamResponse:
    """Say that this is a registry [end-1]."""
    return web.json_response({})


async def catalog(exchange: Exchange) -> web.StreamResponse:
    """List the repositories."""
    access, user = exchange.hosting.settings.access, exchange.caller.name
    known = await asyncio.to_thread(exchange.hosting.store.repositories.names)
    names = [name for name in known if access.allows(user, name, Permission.PULL)]
    part = page(names, exchange.request.query, exchange.request.path)
    headers = {"Link": part.link} if part.link else {}
    return web.json_response({"repositories": part.items}, headers=headers)


async def tags(exchange: Exchange) -> web.StreamResponse:
    """List the tags of a repository."""
    repository = exchange.repository
    upstreams = exchange.hosting.upstreams
    names = await upstreams.tags(exchange.call.name) if upstreams is not None else None
    if names is None:
        names = await asyncio.to_thread(repository.tags)
    if not names and not repository.exists():
        raise name_unknown(exchange.call.name)
    part = page(names, exchange.request.query, exchange.request.path)
    headers = {"Link": part.link} if part.link else {}
    return web.json_response({"name": exchange.call.name, "tags": part.items}, headers=headers)


async def referrers(exchange: Exchange) -> web.StreamResponse:
    """List the manifests whose subject a manifest is; never 404, which would mean "ask a tag"."""
    repository = exchange.repository
    subject = exchange.digest
    entries = await asyncio.to_thread(repository.referrers, subject)
    headers: dict[str, str] = {}
    artifact_type = exchange.request.query.get("artifactType", "")
    if artifact_type:
        entries = [entry for entry in entries if entry.artifact_type == artifact_type]
        headers["OCI-Filters-Applied"] = "artifactType"
    by_digest = {str(entry.descriptor.digest): entry for entry in entries}
    part = page(sorted(by_digest), exchange.request.query, exchange.request.path, _MOST_REFERRERS)
    if part.link:
        headers["Link"] = part.link
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_described(by_digest[digest]) for digest in part.items],
    }
    return web.Response(
        body=json.dumps(index, ensure_ascii=False).encode(),
        headers={**headers, "Content-Type": OCI_INDEX},
    )


def _described(entry: ManifestEntry) -> dict[str, Any]:
    described = entry.descriptor.to_json()
    if entry.artifact_type:
        described["artifactType"] = entry.artifact_type
    return described


MOST = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list.

    Attributes:
        link: the Link header that names the next page; empty after the last one.
    """

    items: tuple[str, ...]
    link: str


def page(items: Sequence[str], query: Mapping[str, str], path: str, most: int = MOST) -> Page:
    """Return the part of the sorted *items* that ``n`` and ``last`` in *query* ask for.

    Raises:
        Refusal: ``n`` is not a number.
    """
    count_text = query.get("n")
    if count_text is None:
        count = most
    elif count_text.isascii() and count_text.isdigit():
        count = min(int(count_text[:9]), most)
    else:
        raise Refusal(400, RefusalCode.UNSUPPORTED, f'n is "{count_text[:50]}", not a number')
    start = bisect_right(items, query["last"]) if "last" in query else 0
    chosen = tuple(items[start : start + count])
    if not chosen or start + count >= len(items):
        return Page(chosen, "")
    rest = {key: value for key, value in query.items() if key not in ("n", "last")}
    target = urlencode({**rest, "n": count, "last": chosen[-1]})
    return Page(chosen, f'<{quote(path)}?{target}>; rel="next"')
