"""Requests about networks [EP-40…43]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pybuild.containers import connecting
from pybuild.daemon.rest.creating import endpoint_of
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer, nothing
from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.networks.listing import is_chosen, matcher
from pybuild.networks.networks import Networks, NewNetwork, inspection


async def listing(exchange: ApiExchange) -> web.StreamResponse:
    """List networks."""
    filters = exchange.query.filters()

    def look() -> list[dict[str, Any]]:
        networks = _networks(exchange.host)
        matches = [matcher(networks, text) for text in filters]
        shown = [one for one in networks.all() if is_chosen(one, matches)]
        return [_shown(inspection(one, ())) for one in shown]

    return answer(await exchange.host.run(look))


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    """Return a network as clients of the API expect it, with a null that the command line does not show."""
    document["IPAM"]["Options"] = document["IPAM"]["Options"] or None
    return document


def _networks(host: RestHost) -> Networks:
    return Networks(host.store.root)


async def inspect(exchange: ApiExchange) -> web.StreamResponse:
    """Describe a network, with the containers that are on it."""

    def look() -> dict[str, Any]:
        networks = _networks(exchange.host)
        one = networks.find(exchange.call.name)
        return _shown(inspection(one, networks.records.living(one)))

    return answer(await exchange.host.run(look))


async def create(exchange: ApiExchange) -> web.StreamResponse:
    """Make a network."""
    order = network_of(await exchange.body())
    network = await exchange.host.run(_networks(exchange.host).create, order)
    return answer({"Id": network.id, "Warning": ""}, 201)


def network_of(body: Fields) -> NewNetwork:
    """Return the network that a client describes.

    Raises:
        ApiRefusal: there can be none.
    """
    if body.flag("ConfigOnly") or body.part("ConfigFrom").text("Network"):
        raise ApiRefusal(400, "networks that only lend their configuration are not done by pybuild")
    if body.text("Scope") not in ("", "local"):
        raise ApiRefusal(400, f"networks of scope {body.text('Scope')} need a swarm")
    ipam = body.part("IPAM")
    if ipam.text("Driver") not in ("", "default"):
        raise ApiRefusal(404, f'plugin "{ipam.text("Driver")[:100]}" not found')
    pools = ipam.parts("Config")
    return NewNetwork(
        name=body.text("Name"),
        driver=body.text("Driver") or "bridge",
        subnets=[text for one in pools if (text := one.text("Subnet"))],
        gateways=[text for one in pools if (text := one.text("Gateway"))],
        ranges=[text for one in pools if (text := one.text("IPRange"))],
        reserved=[
            f"{name}={text}"
            for one in pools
            for name, text in one.pairs("AuxiliaryAddresses").items()
        ],
        internal=body.flag("Internal"),
        attachable=body.flag("Attachable"),
        ipv6=body.flag("EnableIPv6"),
        options=body.pairs("Options"),
        labels=body.pairs("Labels"),
    )


async def connect(exchange: ApiExchange) -> web.StreamResponse:
    """Bring a container to a network [NET-30]."""
    body, host = await exchange.body(), exchange.host
    place = endpoint_of(exchange.call.name, body.part("EndpointConfig"))

    def work() -> None:
        container = host.containers.find(body.text("Container"))
        connecting.connect(host.containers, container, place)

    await host.run(work)
    return nothing(200)


async def disconnect(exchange: ApiExchange) -> web.StreamResponse:
    """Take a container off a network [NET-30]."""
    body, host = await exchange.body(), exchange.host
    name, force = exchange.call.name, body.flag("Force")

    def work() -> None:
        container = host.containers.find(body.text("Container"))
        connecting.disconnect(host.containers, container, name, force=force)

    await host.run(work)
    return nothing(200)


async def remove(exchange: ApiExchange) -> web.StreamResponse:
    """Remove a network."""
    await exchange.host.run(_networks(exchange.host).remove, exchange.call.name)
    return nothing()


async def prune(exchange: ApiExchange) -> web.StreamResponse:
    """Remove the networks that no container uses."""
    host = exchange.host
    removed = await host.run(connecting.prune_networks, host.store, exchange.query.filters())
    return answer({"NetworksDeleted": [one.name for one in removed] or None})


HANDLERS: Mapping[str, Handler] = {
    "GET /networks": listing,
    "GET /networks/": listing,
    "POST /networks/create": create,
    "POST /networks/prune": prune,
    "GET /networks/{name}": inspect,
    "DELETE /networks/{name}": remove,
    "POST /networks/{name}/connect": connect,
    "POST /networks/{name}/disconnect": disconnect,
}
