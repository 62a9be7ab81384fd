"""``pybuild -H ADDR du`` and ``prune``: the store of a server."""

from __future__ import annotations

import sys

from pybuild.builders import Builder
from pybuild.cache.filters import parse_size
from pybuild.commands.disk import confirmed, show, tell
from pybuild.commands.remote import run
from pybuild.daemon.client import disk
from pybuild.options import Parsed
from pybuild.progress.plain import human_bytes


def du(parsed: Parsed, builder: Builder) -> int:
    """List what takes space there."""
    return show(parsed, run(disk.usage(builder, parsed.many("filter"))))


def prune(parsed: Parsed, builder: Builder) -> int:
    """Let it free what nothing needs; asks first unless told not to."""
    if not confirmed(parsed):
        return 0
    keep = parsed.one("keep-storage")
    freed = run(
        disk.prune(
            builder,
            filters=parsed.many("filter"),
            everything=parsed.flag("all"),
            keep_bytes=parse_size(keep, 0) if keep else 0,
            tell=tell,
        )
    )
    sys.stdout.write(f"Total:\t{human_bytes(freed)}\n")
    return 0
