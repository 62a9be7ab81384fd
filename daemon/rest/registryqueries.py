"""Questions to registries: what they have, what an image is there, whether a login holds [EP-4, EP-15]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiohttp import web

from pybuild.daemon.rest.exchange import ApiExchange, Handler, answer
from pybuild.daemon.rest.fields import read_object
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.registries import credential_of
from pybuild.daemon.rest.transfers import engine_of, reference_of
from pybuild.model.descriptor import Descriptor
from pybuild.model.reference import DOCKER_HUB
from pybuild.model.text import boolean
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.credentials import StaticCredentials
from pybuild.registry.client.listing import host_and_term
from pybuild.registry.client.logins import parse_host

_SEARCHED = 25
_MOST_SEARCHED = 100
_OF_PLATFORMS = ("architecture", "os", "variant", "os.version")


async def search(exchange: ApiExchange) -> web.StreamResponse:
    """Look for repositories of a registry, Docker Hub unless the term names another [EP-15]."""
    query = exchange.query
    host, term = host_and_term(query.text("term"))
    if not term:
        raise ApiRefusal(400, "a term to search for must be given")
    limit = query.number("limit") or _SEARCHED
    if not 1 <= limit <= _MOST_SEARCHED:
        raise ApiRefusal(400, f"limit {limit} is outside the range of [1, {_MOST_SEARCHED}]")
    chosen = search_filters(query.filters())
    async with engine_of(exchange, host) as engine:
        results = await engine.client().search(host, term, limit)
    prefix = "" if host == DOCKER_HUB else f"{host}/"
    return answer(
        [
            {
                "name": prefix + one.name,
                "description": one.description,
                "star_count": one.stars or 0,
                "is_official": one.is_official,
                "is_automated": False,
            }
            for one in results
            if (one.stars or 0) >= chosen.stars and chosen.official in (None, one.is_official)
        ]
    )


class _SearchFilters(NamedTuple):
    stars: int = 0
    official: bool | None = None


def search_filters(filters: Sequence[str]) -> _SearchFilters:
    """Return the filters of a search.

    Raises:
        ApiRefusal: one is unknown, or has a wrong value.
    """
    chosen = _SearchFilters()
    for text in filters:
        name, _, value = text.partition("=")
        if name == "stars" and value.isdecimal() and len(value) < 10:
            chosen = chosen._replace(stars=max(chosen.stars, int(value)))
        elif name == "is-official" and (official := boolean(value.lower())) is not None:
            chosen = chosen._replace(official=official)
        elif name != "is-automated":  # none is, since there are no more
            raise ApiRefusal(400, f"invalid filter '{name}={value}'")
    return chosen


async def distribution(exchange: ApiExchange) -> web.StreamResponse:
    """Describe an image as its registry has it."""
    reference = reference_of(exchange.call.name, "")
    async with engine_of(exchange, reference.host) as engine:
        client = engine.client()
        root, data = await client.manifest(reference)
        members = read_object(data)
        shown = [one.part("platform") for one in members.parts("manifests")]
        if config := members.members("config"):  # of an image for one platform
            shown = [read_object(await client.blob(reference, Descriptor.from_json(config)))]
    platforms = [
        {name: one.text(name) for name in _OF_PLATFORMS if one.text(name)}
        for one in shown
        if one.text("os") not in ("", "unknown")
    ]
    described = {"mediaType": root.media_type, "digest": str(root.digest), "size": len(data)}
    return answer({"Descriptor": described, "Platforms": platforms})


async def auth(exchange: ApiExchange) -> web.StreamResponse:
    """Try a login at a registry [EP-4]."""
    body = await exchange.body()
    host = parse_host(body.text("serveraddress") or "docker.io")
    login = credential_of(body)  # None: nobody in particular, whom a registry may let in
    known = {} if login is None else {host: login}
    async with exchange.host.guest(StaticCredentials(known)) as engine:
        try:
            await engine.client().check_login(host)
        except HttpFault as error:
            status = 401 if error.status in (401, 403) else 500
            raise ApiRefusal(status, f"login attempt to {host} failed: {error.message}") from error
    return answer({"Status": "Login Succeeded", "IdentityToken": ""})


HANDLERS: Mapping[str, Handler] = {
    "GET /images/search": search,
    "GET /distribution/{name}/json": distribution,
    "POST /auth": auth,
}
