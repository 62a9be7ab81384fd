"""Requests about images of the store [EP-10, EP-12]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pybuild.cache.content.imagelist import (
    ImageFacts,
    familiar_repository,
    list_images,
    parse_image_filters,
    unpacked_bytes,
)
from pybuild.containers.image import with_tag
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.routes import Version
from pybuild.exporter.docker.document import document
from pybuild.model.descriptor import Descriptor


async def listing(exchange: ApiExchange) -> web.StreamResponse:
    """List images."""
    host, version = exchange.host, exchange.call.version
    return answer(await host.run(image_entries, host, exchange.query.filters(), version))


def image_entries(host: RestHost, filters: list[str], version: Version) -> list[dict[str, Any]]:
    """Return the entries of docker's list of images."""
    store = host.store
    chosen = parse_image_filters(filters, store)
    grouped: dict[str, list[ImageFacts]] = {}
    for one in filter(chosen, list_images(store)):
        grouped.setdefault(str(one.descriptor.digest), []).append(one)
    used = Counter(digest for one in host.containers.list() for digest in one.config.image_digests)
    entries = [_entry(host, facts, used, version) for facts in grouped.values()]
    return sorted(entries, key=lambda one: one["Created"], reverse=True)


def _entry(
    host: RestHost, facts: list[ImageFacts], used: Mapping[str, int], version: Version
) -> dict[str, Any]:
    first = facts[0]
    names = [one.reference for one in facts if one.reference is not None]
    digest = first.descriptor.digest
    size = (unpacked_bytes(host.store, first.layers) if first.layers else None) or first.size
    created = first.created
    entry: dict[str, Any] = {
        "Id": str(first.image_id),
        "ParentId": "",
        "RepoTags": [name.familiar for name in names if name.tag],
        "RepoDigests": sorted({f"{familiar_repository(name)}@{digest}" for name in names}),
        "Created": max(0, int(created.timestamp())) if created else 0,
        "Size": size,
        "SharedSize": -1,
        "Labels": dict(first.labels) or None,
        "Containers": used.get(str(digest), 0) if version >= (1, 51) else -1,
    }
    if version < (1, 44):
        entry["VirtualSize"] = size
    return entry


def find_image(host: RestHost, name: str) -> Descriptor:
    """Return the image of that name or id.

    Raises:
        ApiRefusal: there is none.
    """
    descriptor = host.store.images.resolve(name)
    if descriptor is None:
        raise ApiRefusal(404, f"No such image: {with_tag(name)}")
    return descriptor


async def inspect(exchange: ApiExchange) -> web.StreamResponse:
    """Describe an image."""
    host = exchange.host

    def look() -> dict[str, Any]:
        return document(host.store, find_image(host, exchange.call.name))

    shown = await host.run(look)
    shown |= {
        "Parent": "",
        "DockerVersion": "",
        "GraphDriver": {"Name": "overlayfs", "Data": None},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }
    if exchange.call.version < (1, 44):
        shown["VirtualSize"] = shown["Size"]
    return answer(shown)


HANDLERS: Mapping[str, Handler] = {
    "GET /images/json": listing,
    "GET /images/{name}/json": inspect,
}
