"""``pybuild registry``: a registry out of the store."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from pybuild.cache.repositories.listing import known_repository, manifest_rows, parse_digest
from pybuild.cache.repositories.repositories import is_name, is_tag
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store
from pybuild.commands.several import Verb, run_verb
from pybuild.engine.host import SystemClock
from pybuild.engine.registryserver import serve, warn
from pybuild.engine.servesettings import read_serving
from pybuild.engine.settings import load_settings
from pybuild.model.amounts import human_bytes
from pybuild.model.errors import UsageError, UserError
from pybuild.model.listing import table


def main(parsed: Parsed) -> int:
    """Run the subcommand of the first word."""
    verbs: dict[str, Verb] = {
        "serve": (_serve, "no arguments", 0, 0),
        "ls": (_list, "names of repositories", 0, 1 << 30),
        "rm": (_remove, "NAME:TAG or NAME@DIGEST", 1, 1 << 30),
    }
    return run_verb(parsed, "registry", verbs, parsed.positionals)


def _serve(parsed: Parsed, rest: Sequence[str]) -> int:
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    serving = read_serving(settings.registry_server, parsed)
    with Store.open(settings.root, SystemClock(), warn=warn) as store:
        # Not uvloop: that has no sendfile, and a registry sends files.
        asyncio.run(serve(store, serving, settings))
    return 0


def _list(parsed: Parsed, rest: Sequence[str]) -> int:
    """List the content of the registry: repositories, tags, digests, sizes."""
    with open_store(parsed, to_read=True) as store:
        names = rest or store.repositories.names()
        rows = [
            row for name in names for row in manifest_rows(store, known_repository(store, name))
        ]
    if parsed.one("format") == "json":
        sys.stdout.write("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
        return 0
    body = [
        [
            str(row["repository"]),
            str(row["tag"] or "<none>"),
            str(row["digest"]),
            datetime.fromtimestamp(int(row["pushed"]), UTC).strftime("%Y-%m-%d %H:%M"),
            human_bytes(int(row["size"])),
        ]
        for row in rows
    ]
    sys.stdout.write(table([["REPOSITORY", "TAG", "DIGEST", "PUSHED (UTC)", "SIZE"], *body]))
    return 0


def _remove(parsed: Parsed, rest: Sequence[str]) -> int:
    """Delete tags and manifests from the registry; ``prune`` frees their space."""
    with open_store(parsed) as store:
        for text in rest:
            name, at, digest = text.partition("@")
            if at:
                done = known_repository(store, name).delete_manifest(parse_digest(text, digest))
            else:
                name, _, tag = text.rpartition(":")
                if not is_tag(tag) or not is_name(name):
                    raise UsageError(f'"{text}": expected NAME:TAG or NAME@DIGEST')
                done = known_repository(store, name).untag(tag)
            if not done and not parsed.flag("force"):
                raise UserError(f"{text} is not in the registry", hints=["pybuild registry ls"])
            if done:
                sys.stdout.write(f"Deleted: {text}\n")
    return 0
