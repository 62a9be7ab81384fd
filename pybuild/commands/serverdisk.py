"""``pybuild -H ADDR du`` and ``prune``: the store of a server."""

from __future__ import annotations

import sys

from pybuild.client import disk
from pybuild.client.builders import BuilderRecord
from pybuild.commandline.parser import Parsed
from pybuild.commands.disk import confirmed, policy_from, show, tell
from pybuild.commands.serverbuild import run
from pybuild.model.amounts import human_bytes


def du(parsed: Parsed, builder: BuilderRecord) -> int:
    """List what takes space there."""
    return show(parsed, run(disk.usage(builder, parsed.many("filter"))))


def prune(parsed: Parsed, builder: BuilderRecord) -> int:
    """Let it free what nothing needs; asks first unless told not to."""
    if not confirmed(parsed, "all build cache of the server"):
        return 0
    freed = run(disk.prune(builder, policy_from(parsed, None), tell))
    sys.stdout.write(f"Total:\t{human_bytes(freed)}\n")
    return 0
