"""Requests about what containers take, and what takes place in the store [EP-3, EP-27, EP-29]."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pybuild.containers.consumption import Consumption, consumption, stats_document
from pybuild.containers.container import Container
from pybuild.containers.processes import process_table
from pybuild.containers.pruning import prune_containers
from pybuild.daemon.rest.buildcache import cache_entries
from pybuild.daemon.rest.containers import entries_of
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer, json_line
from pybuild.daemon.rest.images import image_entries
from pybuild.model.errors import UserError
from pybuild.volumes.listing import document as volume_document
from pybuild.volumes.volumes import Volumes

_EVERY_S = 1.0


async def stats(exchange: ApiExchange) -> web.StreamResponse:
    """Send what a container takes, once or each second [CTR-80, CTR-81]."""
    query, host, container = exchange.query, exchange.host, await exchange.container()
    before = Consumption()
    if not query.flag("stream", otherwise=True):
        if not query.flag("one-shot"):
            before = await host.run(_look, container)
            if before.at:
                await asyncio.sleep(_EVERY_S)
        return answer(stats_document(container.config, await host.run(_look, container), before))
    response = await exchange.begin()
    while True:
        try:
            now = await host.run(_look, container)
        except UserError:
            break  # it was removed
        await response.write(json_line(stats_document(container.config, now, before)))
        before = now
        await asyncio.sleep(_EVERY_S)
    await response.write_eof()
    return response


def _look(container: Container) -> Consumption:
    return consumption(container.state(), container.config)


async def top(exchange: ApiExchange) -> web.StreamResponse:
    """List the processes of a container by this machine's ps [CTR-82]."""
    container = await exchange.container()
    options = exchange.query.text("ps_args").split()
    title, *lines = await exchange.host.run(process_table, container, options)
    await exchange.host.run(container.note, "top")
    titles = title.split()
    rows = [line.split(None, len(titles) - 1) for line in lines]
    return answer({"Titles": titles, "Processes": rows})


async def prune(exchange: ApiExchange) -> web.StreamResponse:
    """Remove the containers that do not run."""
    host = exchange.host
    removed, freed = await host.run(prune_containers, host.store, exchange.query.filters())
    return answer({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})


async def disk(exchange: ApiExchange) -> web.StreamResponse:
    """Sum up what the store holds [EP-3]."""
    kinds = exchange.query.texts("type")
    return answer(await exchange.host.run(_disk, exchange.host, frozenset(kinds)))


def _disk(host: RestHost, kinds: frozenset[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"LayersSize": 0, "BuilderSize": 0}
    known = {"Images": "image", "Containers": "container", "Volumes": "volume"}
    shown |= {name: None for name in (*known, "BuildCache")}
    if not kinds or "image" in kinds:
        images = image_entries(host, [], (1, 51))
        shown["Images"] = images
        shown["LayersSize"] = sum(one["Size"] for one in images)
    if not kinds or "container" in kinds:
        shown["Containers"] = entries_of(host, [], 0, shows_all=True, sized=True)
    if not kinds or "volume" in kinds:
        shown["Volumes"] = _volumes(host)
    if not kinds or "build-cache" in kinds:
        shown["BuildCache"] = entries = cache_entries(host.store)
        shown["BuilderSize"] = sum(one["Size"] for one in entries)
    return shown


def _volumes(host: RestHost) -> list[dict[str, Any]]:
    volumes, listed = Volumes(host.store), list[dict[str, Any]]()
    for one in volumes.list():
        count = len(host.containers.volume_users(one.name))
        usage = {"Size": volumes.size(one), "RefCount": count}
        listed.append({**volume_document(one), "UsageData": usage})
    return listed


STREAMS: Mapping[str, Handler] = {"GET /containers/{name}/stats": stats}
HANDLERS: Mapping[str, Handler] = {
    "GET /containers/{name}/top": top,
    "POST /containers/prune": prune,
    "GET /system/df": disk,
}
