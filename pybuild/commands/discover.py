"""``pybuild tags`` and ``search``: lists of registries."""

from __future__ import annotations

import json
import sys

from pybuild.commandline.parser import Parsed
from pybuild.commands.images import parse_reference
from pybuild.commands.registryclient import with_client
from pybuild.model.errors import UsageError
from pybuild.model.listing import table
from pybuild.model.reference import DOCKER_HUB
from pybuild.registry.client.listing import SearchResult

_MOST_RESULTS = 100


def tags(parsed: Parsed) -> int:
    """Print the tags of a repository, one a line."""
    reference = parse_reference(parsed.positionals[0])
    names = with_client(parsed, lambda client: client.tags(reference))
    if parsed.one("format") == "json":
        listed = {"name": reference.repository, "tags": names}
        sys.stdout.write(json.dumps(listed, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{tag}\n" for tag in names))
    return 0


def search(parsed: Parsed) -> int:
    """Print the repositories of a registry, Docker Hub unless one is named, that a word finds."""
    host, term = _where(parsed.positionals[0])
    limit = _limit(parsed.one("limit", "25"))
    results = with_client(parsed, lambda client: client.search(host, term, limit))
    prefix = "" if host == DOCKER_HUB else f"{host}/"
    if parsed.one("format") == "json":
        sys.stdout.write("".join(_json_line(prefix, one) for one in results))
        return 0
    rows = [["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]]
    for one in results:
        stars = "" if one.stars is None else str(one.stars)
        text = " ".join(one.description.split())
        shown = text if len(text) <= 50 else text[:49] + "…"
        rows.append([prefix + one.name, shown, stars, "[OK]" if one.is_official else ""])
    sys.stdout.write(table(rows))
    return 0


def _json_line(prefix: str, one: SearchResult) -> str:
    row = {
        "name": prefix + one.name,
        "description": one.description,
        "stars": one.stars,
        "official": one.is_official,
    }
    return json.dumps(row) + "\n"


def _where(text: str) -> tuple[str, str]:
    """Split ``[HOST/]TERM``; a host has a dot, a port, or is localhost, as in references."""
    head, slash, rest = text.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return (DOCKER_HUB if head == "index.docker.io" else head), rest
    return DOCKER_HUB, text


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_RESULTS:
        raise UsageError(f'invalid limit "{text}": expected 1 to {_MOST_RESULTS}')
    return int(text)
