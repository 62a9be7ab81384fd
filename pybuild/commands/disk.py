"""``pybuild du``, ``prune`` and ``why-kept``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pybuild.cache.space.filters import shown_id
from pybuild.cache.space.keptpage import kept_document, kept_text
from pybuild.cache.space.prune import Policy
from pybuild.cache.space.usage import UsageRecord, since, usage_document
from pybuild.cache.space.whykept import why_kept
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import with_store
from pybuild.commands.several import confirmed
from pybuild.model.amounts import human_bytes, parse_size
from pybuild.model.listing import table
from pybuild.model.printable import printable

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder


def du(parsed: Parsed, builder: Builder) -> int:
    """List the things that take space, largest first, and the bytes that can be freed."""
    records = sorted(builder.usage(parsed.many("filter")), key=lambda r: (-r.size, r.kind, r.id))
    if parsed.one("format") == "json":
        sys.stdout.write(
            "".join(json.dumps(usage_document(r), sort_keys=True) + "\n" for r in records)
        )
        return 0
    if parsed.flag("verbose"):
        for record in records:
            lines = [
                f"{key}:\t{printable(str(value))}" for key, value in usage_document(record).items()
            ]
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


def prune(parsed: Parsed, builder: Builder) -> int:
    """Free unneeded things; asks first without ``--force``."""
    what = "all build cache" if parsed.flag("all") else "all build cache that no image needs"
    if not confirmed(parsed, f"{what}, and all images without a name but the last of each build"):
        return 0
    from pybuild.builds.localbuilder import LocalBuilder
    from pybuild.containers.pruning import give_up_unfinished

    if isinstance(builder, LocalBuilder):
        with_store(parsed, give_up_unfinished)
    freed = builder.prune(_policy(parsed, builder), _show_freed)
    sys.stdout.write(f"Total:\t{human_bytes(freed)}\n")
    return 0


def _policy(parsed: Parsed, builder: Builder) -> Policy:
    """Read the policy of pruning from the options.

    Raises:
        UsageError: one of the sizes is none.
    """

    def size(*names: str) -> int | None:
        given = next((text for name in names if (text := parsed.one(name))), "")
        is_share = given.strip().endswith("%")
        return parse_size(given, builder.disk_bytes() if is_share else 0) if given else None

    return Policy(
        filters=tuple(parsed.many("filter")),
        reserved_space=size("reserved-space") or 0,
        max_used_space=size("max-used-space", "keep-storage"),
        min_free_space=size("min-free-space"),
        all=parsed.flag("all"),
    )


def _show_freed(record: UsageRecord) -> None:
    sys.stdout.write(f"{shown_id(record.id)}\t{human_bytes(record.size)}\n")


def explain_kept(parsed: Parsed) -> int:
    """Explain each thing that the name stands for."""
    name = parsed.positionals[0]
    things = with_store(parsed, lambda store: why_kept(store, name), to_read=True)
    if parsed.one("format") == "json":
        sys.stdout.write(
            "".join(json.dumps(kept_document(k), sort_keys=True) + "\n" for k in things)
        )
    else:
        sys.stdout.write("\n".join(kept_text(kept) for kept in things))
    return 0
