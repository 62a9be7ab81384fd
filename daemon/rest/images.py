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
    parent_id,
    parse_image_filters,
    unpacked_bytes,
)
from pybuild.containers.image import with_tag
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer
from pybuild.daemon.rest.imageplatforms import image_for, manifest_entries, platform_of_json
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.routes import Version
from pybuild.exporter.docker.document import document
from pybuild.model.descriptor import Descriptor

_OF_ALL = ("Id", "RepoTags", "RepoDigests", "Descriptor")
"""The facts of an image for several platforms that are of no single one."""


async def listing(exchange: ApiExchange) -> web.StreamResponse:
    """List images."""
    host, version, query = exchange.host, exchange.call.version, exchange.query
    entries = await host.run(
        image_entries,
        host,
        query.filters(),
        version,
        shared=query.flag("shared-size"),
        manifests=version >= (1, 47) and query.flag("manifests"),
    )
    return answer(entries)


def image_entries(
    host: RestHost,
    filters: list[str],
    version: Version,
    *,
    shared: bool = False,
    manifests: bool = False,
) -> list[dict[str, Any]]:
    """Return the entries of docker's list of images.

    Args:
        shared: with the bytes of layers that other images have too.
        manifests: with those of each image.
    """
    store = host.store
    chosen = parse_image_filters(filters, store)
    grouped: dict[str, list[ImageFacts]] = {}
    for one in filter(chosen, list_images(store)):
        grouped.setdefault(str(one.descriptor.digest), []).append(one)
    used = Counter(digest for one in host.containers.list() for digest in one.config.image_digests)
    entries = [_entry(host, facts, used, version) for facts in grouped.values()]
    if shared:
        counts = Counter(layer.digest for facts in grouped.values() for layer in facts[0].layers)
        for entry, facts in zip(entries, grouped.values(), strict=True):
            common = [layer for layer in facts[0].layers if counts[layer.digest] > 1]
            entry["SharedSize"] = unpacked_bytes(store, common) or 0
    if manifests:
        for entry, facts in zip(entries, grouped.values(), strict=True):
            entry["Manifests"] = manifest_entries(store, facts[0].descriptor)
            entry["Descriptor"] = facts[0].descriptor.to_json()
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
        "ParentId": parent_id(host.store, first),
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
    host, query, version = exchange.host, exchange.query, exchange.call.version
    platform = platform_of_json(query.text("platform")) if version >= (1, 49) else None
    lists = version >= (1, 48) and query.flag("manifests")
    if lists and platform is not None:
        raise ApiRefusal(
            400, "conflicting options: manifests and platform options cannot both be set"
        )

    def look() -> dict[str, Any]:
        image = find_image(host, exchange.call.name)
        chosen = image_for(host.store, image, platform, exchange.call.name)
        shown = document(host.store, image)
        if chosen.digest != image.digest:
            shown = {**document(host.store, chosen), **{name: shown[name] for name in _OF_ALL}}
        if lists:
            shown["Manifests"] = manifest_entries(host.store, image)
        return shown

    shown = await host.run(look)
    shown |= {
        "DockerVersion": "",
        "GraphDriver": {"Name": "overlayfs", "Data": None},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }
    if version < (1, 44):
        shown["VirtualSize"] = shown["Size"]
    return answer(shown)


HANDLERS: Mapping[str, Handler] = {
    "GET /images/json": listing,
    "GET /images/{name}/json": inspect,
}
