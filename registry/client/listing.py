"""Lists of a registry: tags of a repository, its repositories, search results [end-8, DST-9]."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.reference import DOCKER_HUB, Reference
from pybuild.net.http1.client import Response, origin_of
from pybuild.net.http1.faults import HttpFault, printable
from pybuild.net.http1.redirects import onward
from pybuild.registry.client import manifests
from pybuild.registry.client.challenge import Scopes, pull_scope
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.transport import Request, Transport

_LIMIT_BYTES = 16 << 20
_MOST_PAGES = 1000
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?', re.IGNORECASE)
_HUB_SEARCH = "index.docker.io"
_CATALOG_SCOPE = "registry:catalog:*"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One repository that a search found; *stars* is None where nobody counts them."""

    name: str
    description: str = ""
    stars: int | None = None
    is_official: bool = False


async def tags(transport: Transport, endpoint: Endpoint, reference: Reference) -> list[str]:
    """Return all tags of a repository, as the registry orders them."""
    request = Request(
        endpoint=endpoint,
        method="GET",
        repository=reference.path,
        action=f"list tags of {reference.repository}",
        scopes=pull_scope(reference.path),
        path=f"/{reference.path}/tags/list",
    )
    try:
        return await _pages(transport, request, manifests.tag_names)
    except HttpFault as error:
        if error.status == 404:
            raise _unknown(reference, error) from error
        raise


def _unknown(reference: Reference, error: HttpFault) -> HttpFault:
    """Return the fault of a registry that knows no such repository, or does not tell us."""
    host, term = reference.host, reference.path.rpartition("/")[2]
    place = "" if host == DOCKER_HUB else f"{host}/"
    return HttpFault(
        f"{host} has no repository {reference.path}: {error.message.rpartition(': ')[2]}",
        status=error.status,
        hints=[
            f"pybuild search {place}{term} looks for its name; a private one: pybuild login {host}"
        ],
    )


async def repositories(transport: Transport, endpoint: Endpoint) -> list[str]:
    """Return the repositories that a registry shows us, in its order."""
    request = Request(
        endpoint=endpoint,
        method="GET",
        repository="",
        action=f"list repositories of {endpoint.registry}",
        scopes=Scopes.parse(_CATALOG_SCOPE),
        path="/_catalog",
    )
    return await _pages(transport, request, manifests.repository_names)


async def search(
    transport: Transport, endpoint: Endpoint, term: str, limit: int
) -> list[SearchResult]:
    """Return a registry's own search results, best first; else repositories that contain *term*.

    Only Docker Hub, and what imitates it, has a search. Where there is none, the list of
    repositories is looked through, if we are shown it.
    """
    netloc = _HUB_SEARCH if endpoint.registry == DOCKER_HUB else endpoint.netloc
    request = Request(
        endpoint=replace(endpoint, netloc=netloc, prefix="/v1"),
        method="GET",
        repository="",
        action=f"search {endpoint.registry}",
        scopes=Scopes(),
        path="/search",
        query=(("q", term), ("n", str(limit))),
    )
    response, data = await transport.fetch(request, _LIMIT_BYTES)
    if response.status == 200:
        return _results(request.action, data)[:limit]
    if endpoint.registry == DOCKER_HUB:
        raise transport.refusal(request, response)
    names = await repositories(transport, endpoint)
    lowered = term.lower()
    return [SearchResult(name=name) for name in names if lowered in name.lower()][:limit]


async def _pages(
    transport: Transport, request: Request, read: Callable[[str, bytes], list[str]]
) -> list[str]:
    """Return the texts of all pages, once each."""
    items: dict[str, None] = {}
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        response, data = await transport.fetch(request, _LIMIT_BYTES)
        if response.status != 200:
            raise transport.refusal(request, response)
        following = next_page(response)
        items.update(dict.fromkeys(read(request.action, data)))
        if not following or following in seen:
            break
        seen.add(following)
        request = replace(request, path="", url=following)
    return list(items)


def next_page(response: Response) -> str:
    """The next page's URL, when it lies on the same server."""
    match = _NEXT.search(response.headers.get("Link", ""))
    if match is None:
        return ""
    target = onward(response, match[1])
    return str(target) if origin_of(target) == origin_of(response.url) else ""


def _results(action: str, data: bytes) -> list[SearchResult]:
    items = manifests.parse_object(action, data).get("results")
    if not isinstance(items, list):
        raise ContentFault(f"{action}: results is not a list")
    results: list[SearchResult] = []
    for item in cast("list[object]", items):
        entry = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
        name, stars = entry.get("name"), entry.get("star_count")
        if not isinstance(name, str):
            raise ContentFault(f"{action}: a result has no name")
        results.append(
            SearchResult(
                name=printable(name),
                description=printable(str(entry.get("description") or "")),
                stars=stars if isinstance(stars, int) else None,
                is_official=entry.get("is_official") is True,
            )
        )
    return results


_MOST_RESULTS = 100


def result_line(prefix: str, one: SearchResult) -> str:
    row = {
        "name": prefix + one.name,
        "description": one.description,
        "stars": one.stars,
        "official": one.is_official,
    }
    return json.dumps(row) + "\n"


def host_and_term(text: str) -> tuple[str, str]:
    """Split ``[HOST/]TERM``; a host has a dot, a port, or is localhost, as in references."""
    head, slash, rest = text.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return (DOCKER_HUB if head == "index.docker.io" else head), rest
    return DOCKER_HUB, text


def read_limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_RESULTS:
        raise UsageError(f'invalid limit "{text}": expected 1 to {_MOST_RESULTS}')
    return int(text)
