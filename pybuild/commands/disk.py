"""``pybuild du`` and ``pybuild prune``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from pybuild.arguments.servesettings import read_keeping
from pybuild.cache.repositories.collect import unlink_at_once
from pybuild.cache.space.filters import parse_filters, shown_id
from pybuild.cache.space.prune import Policy, Pruned
from pybuild.cache.space.prune import prune as free
from pybuild.cache.space.usage import UsageRecord, overhead, usage
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.images import table
from pybuild.engine.engine import Engine
from pybuild.engine.settings import load_settings
from pybuild.model.amounts import human_bytes, parse_size
from pybuild.model.errors import UsageError
from pybuild.model.printable import printable

T = TypeVar("T")


def du(parsed: Parsed) -> int:
    """List the things that take space, largest first, and the bytes that can be freed."""

    def measure(store: Store) -> list[UsageRecord]:
        picks, _ = parse_filters(parsed.many("filter"), store.clock.now())
        return [record for record in [*usage(store), overhead(store)] if picks(record)]

    return show(parsed, with_store(parsed, measure, to_read=True))


def show(parsed: Parsed, found: list[UsageRecord]) -> int:
    """Print records as the command line says."""
    records = sorted(found, key=lambda r: (-r.size, r.kind, r.id))
    if parsed.one("format") == "json":
        sys.stdout.write("".join(json.dumps(_as_json(r), sort_keys=True) + "\n" for r in records))
        return 0
    if parsed.flag("verbose"):
        for record in records:
            lines = [f"{key}:\t{printable(str(value))}" for key, value in _as_json(record).items()]
            sys.stdout.write("\n".join(lines) + "\n\n")
    else:
        rows = [["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "DESCRIPTION"]]
        rows += [
            [
                shown_id(record.id),
                "true" if record.reclaimable else "false",
                human_bytes(record.size),
                since(record.last_used),
                record.description[:60],
            ]
            for record in records
        ]
        sys.stdout.write(table(rows))
    total = sum(record.size for record in records)
    reclaimable = sum(record.size for record in records if record.reclaimable)
    sys.stdout.write(
        f"\nReclaimable:\t{human_bytes(reclaimable)}\nTotal:\t\t{human_bytes(total)}\n"
    )
    return 0


def prune(parsed: Parsed) -> int:
    """Free unneeded things; asks first without ``--force``."""
    what = "all build cache" if parsed.flag("all") else "all build cache that no image needs"
    if not confirmed(parsed, f"{what}, and all images without a name but the last of each build"):
        return 0
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    keeping = read_keeping(settings.registry_server)

    def work(store: Store) -> Pruned:
        unlink_at_once(store, keeping)
        disk = os.statvfs(store.root)
        return free(store, policy_from(parsed, disk.f_blocks * disk.f_frsize), tell)

    pruned = with_store(parsed, work)
    sys.stdout.write(f"Total:\t{human_bytes(pruned.freed)}\n")
    return 0


def policy_from(parsed: Parsed, disk_bytes: int | None) -> Policy:
    """Read the policy of pruning from the options; *disk_bytes* None: of a disk elsewhere.

    Raises:
        UsageError: one of the sizes is none.
    """

    def size(*names: str) -> int | None:
        given = next((text for name in names if (text := parsed.one(name))), "")
        if given.strip().endswith("%") and disk_bytes is None:
            raise UsageError(
                f'invalid size "{given}": a part of a disk elsewhere', hints=("write 10GB",)
            )
        return parse_size(given, disk_bytes or 0) if given else None

    return Policy(
        filters=tuple(parsed.many("filter")),
        reserved_space=size("reserved-space") or 0,
        max_used_space=size("max-used-space", "keep-storage"),
        min_free_space=size("min-free-space"),
        all=parsed.flag("all"),
    )


def tell(record: UsageRecord) -> None:
    """Print the things that were freed."""
    sys.stdout.write(f"{shown_id(record.id)}\t{human_bytes(record.size)}\n")


def with_store(parsed: Parsed, work: Callable[[Store], T], *, to_read: bool = False) -> T:
    """Run *work* in a thread beside an engine: files of other user ids need its workers.

    Args:
        to_read: it changes nothing; see `Store.open`.
    """
    import uvloop

    async def run() -> T:
        settings = load_settings(parsed.one("config"), parsed.one("root"))
        async with Engine(settings, to_read=to_read) as engine:
            return await asyncio.to_thread(work, engine.store)

    return uvloop.run(run())


def confirmed(parsed: Parsed, what: str) -> bool:
    """Ask whether to remove *what*, but not with ``--force``.

    Raises:
        UsageError: there is nobody to ask.
    """
    if parsed.flag("force"):
        return True
    if not sys.stdin.isatty():
        raise UsageError("prune asks before it deletes", hints=["add --force to do without"])
    sys.stderr.write(f"WARNING! This will remove {what}. Are you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def since(moment: float) -> str:
    """Return ``3 days ago``; nothing for 0."""
    if not moment:
        return ""
    seconds = max(0, int(time.time() - moment))
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count = seconds // length
        if count or unit == "second":
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError


def _as_json(record: UsageRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "kind": record.kind,
        "type": record.type,
        "size": record.size,
        "created": record.created,
        "last_used": record.last_used,
        "use_count": record.use_count,
        "in_use": record.in_use,
        "shared": record.shared,
        "mutable": record.mutable,
        "reclaimable": record.reclaimable,
        "parents": list(record.parents),
        "description": record.description,
    }
