"""``pybuild cache mounts``: the directories of ``RUN --mount=type=cache``, by their ids."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from pybuild.cache.content.cachemounts import (
    CacheMount,
    find,
    list_mounts,
    mount_row,
    only_one,
    remove,
)
from pybuild.cache.space.usage import since
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import with_engine, with_store
from pybuild.commands.several import Verb, run_verb
from pybuild.engine.engine import Engine
from pybuild.executor.steps.mountcarrying import export_mount, import_mount
from pybuild.exporter.mountfiles import exported_file, opened_archive
from pybuild.model.amounts import human_bytes
from pybuild.model.errors import UsageError, UserError
from pybuild.model.listing import table


def main(parsed: Parsed) -> int:
    """Run the subcommand."""
    group, *words = parsed.positionals
    if group != "mounts" or not words:
        raise UsageError(
            f'unknown command "cache {" ".join(parsed.positionals)}"',
            hints=("pybuild cache mounts ls | inspect | export | import | rm",),
        )
    verbs: dict[str, Verb] = {
        "ls": (_ls, "no arguments", 0, 0),
        "inspect": (_inspect, "one ID", 1, 1),
        "export": (_export, "an ID and at most one FILE", 1, 2),
        "import": (_import, "an ID and at most one FILE", 1, 2),
        "rm": (_rm, "one ID or more", 1, 1 << 30),
    }
    return run_verb(parsed, "cache mounts", verbs, words)


def _ls(parsed: Parsed, words: list[str]) -> int:
    def look(store: Store) -> list[dict[str, Any]]:
        return [mount_row(store, mount) for mount in list_mounts(store)]

    rows = with_store(parsed, look, to_read=True)
    if parsed.one("format") == "json":
        sys.stdout.write("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
        return 0
    lines = [["ID", "NAME", "SIZE", "LAST USED", "IN USE"]]
    lines += [
        [
            str(row["id"]),
            str(row["name"])[:12],
            human_bytes(row["size"]),
            since(row["last_used"]),
            "true" if row["in_use"] else "false",
        ]
        for row in rows
    ]
    sys.stdout.write(table(lines))
    return 0


def _inspect(parsed: Parsed, words: list[str]) -> int:
    def look(store: Store) -> list[dict[str, Any]]:
        return [
            {**mount_row(store, mount), "path": os.path.join(store.mounts_dir, mount.name, "fs")}
            for mount in find(store, words[0])
        ]

    sys.stdout.write(
        json.dumps(with_store(parsed, look, to_read=True), indent=2, sort_keys=True) + "\n"
    )
    return 0


def _export(parsed: Parsed, words: list[str]) -> int:
    path = words[1] if len(words) > 1 else "-"
    if path == "-" and sys.stdout.isatty():
        raise UsageError("a tar is nothing for a terminal", hints=("name a file, or redirect it",))

    async def work(engine: Engine) -> None:
        mount = only_one(await asyncio.to_thread(find, engine.store, words[0]), words[0])
        if path == "-":
            await export_mount(engine.store, engine.workers, mount, sys.stdout.fileno())
            return
        with exported_file(path) as file:
            await export_mount(engine.store, engine.workers, mount, file.fileno())

    with_engine(parsed, work)
    return 0


def _import(parsed: Parsed, words: list[str]) -> int:
    path = words[1] if len(words) > 1 else "-"
    if not words[0]:
        raise UsageError("a cache mount needs an ID")

    async def work(engine: Engine) -> CacheMount:
        with await asyncio.to_thread(opened_archive, path) as file:
            called = "standard input" if path == "-" else path
            return await import_mount(engine.store, engine.workers, words[0], file.fileno(), called)

    mount = with_engine(parsed, work)
    sys.stdout.write(f"{mount.name[:12]}\n")
    return 0


def _rm(parsed: Parsed, words: list[str]) -> int:
    def work(store: Store) -> tuple[list[CacheMount], list[str], int]:
        mounts = [mount for word in words for mount in find(store, word)]
        gone, freed = remove(store, list(dict.fromkeys(mount.name for mount in mounts)))
        return [mount for mount in mounts if mount.name not in gone], gone, freed

    left, gone, freed = with_store(parsed, work)
    for name in gone:
        sys.stdout.write(f"{name[:12]}\n")
    sys.stdout.write(f"Total:\t{human_bytes(freed)}\n")
    if left:
        raise UserError(
            f'cache mount "{left[0].id}" is in use by a build',
            hints=("try again when it is done",),
        )
    return 0
