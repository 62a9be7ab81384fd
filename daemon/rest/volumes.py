"""Requests about volumes [EP-44]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pybuild.containers.volumepruning import includes_all, prune_volumes, volume_choice
from pybuild.daemon.rest.exchange import ApiExchange, Handler, answer, nothing
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.errors import UserError
from pybuild.volumes.listing import document
from pybuild.volumes.volumes import Volumes


async def listing(exchange: ApiExchange) -> web.StreamResponse:
    """List volumes."""
    filters, host = exchange.query.filters(), exchange.host

    def look() -> list[dict[str, Any]]:
        chosen = volume_choice(filters, host.containers)
        return [document(one) for one in Volumes(host.store).list() if chosen(one)]

    return answer({"Volumes": await host.run(look), "Warnings": None})


async def create(exchange: ApiExchange) -> web.StreamResponse:
    """Make a volume; one that is there already is answered as it is."""
    body = await exchange.body()
    if body.part("ClusterVolumeSpec"):
        raise ApiRefusal(503, "volumes of a cluster need a swarm")
    volume = await exchange.host.run(
        Volumes(exchange.host.store).create,
        body.text("Name"),
        driver=body.text("Driver"),
        options=body.pairs("DriverOpts"),
        labels=body.pairs("Labels"),
    )
    return answer(document(volume), 201)


async def inspect(exchange: ApiExchange) -> web.StreamResponse:
    """Describe a volume."""
    volumes = Volumes(exchange.host.store)
    return answer(document(await exchange.host.run(volumes.find, exchange.call.name)))


async def remove(exchange: ApiExchange) -> web.StreamResponse:
    """Remove a volume that no container has."""
    host, name = exchange.host, exchange.call.name
    volumes = Volumes(host.store)
    try:
        await host.run(volumes.remove, name, host.containers.volume_users)
    except UserError:
        if exchange.query.flag("force") and not volumes.has(name):
            return nothing()
        raise
    return nothing()


async def prune(exchange: ApiExchange) -> web.StreamResponse:
    """Remove the volumes that no container has: those without a name, unless all are meant."""
    host, filters = exchange.host, exchange.query.filters()
    all = includes_all(filters) or exchange.call.version < (1, 42)
    labels = [text for text in filters if not text.startswith("all=")]
    removed, freed = await host.run(prune_volumes, host.store, all=all, filters=labels)
    return answer({"VolumesDeleted": removed, "SpaceReclaimed": freed})


async def update(exchange: ApiExchange) -> web.StreamResponse:
    """Refuse what only volumes of a cluster have."""
    raise ApiRefusal(503, "volumes of a cluster need a swarm")


HANDLERS: Mapping[str, Handler] = {
    "GET /volumes": listing,
    "POST /volumes/create": create,
    "POST /volumes/prune": prune,
    "GET /volumes/{name}": inspect,
    "PUT /volumes/{name}": update,
    "DELETE /volumes/{name}": remove,
}
