"""``pybuild tags`` and ``search``: lists of registries."""

from __future__ import annotations

import json
import sys

from pybuild.commandline.parser import Parsed
from pybuild.commands.registryclient import with_client
from pybuild.model.listing import table
from pybuild.model.reference import DOCKER_HUB, parse_reference
from pybuild.registry.client.listing import host_and_term, read_limit, result_line


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
    host, term = host_and_term(parsed.positionals[0])
    limit = read_limit(parsed.one("limit", "25"))
    results = with_client(parsed, lambda client: client.search(host, term, limit))
    prefix = "" if host == DOCKER_HUB else f"{host}/"
    if parsed.one("format") == "json":
        sys.stdout.write("".join(result_line(prefix, one) for one in results))
        return 0
    rows = [["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]]
    for one in results:
        stars = "" if one.stars is None else str(one.stars)
        text = " ".join(one.description.split())
        shown = text if len(text) <= 50 else text[:49] + "…"
        rows.append([prefix + one.name, shown, stars, "[OK]" if one.is_official else ""])
    sys.stdout.write(table(rows))
    return 0
