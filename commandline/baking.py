"""The command that builds many targets."""

from __future__ import annotations

from pybuild.bake.options import OPTIONS
from pybuild.commandline.parser import (
    ANNOTATIONS,
    CA,
    CACHE_MAX,
    CLUSTER,
    GLOBAL,
    PROGRESS,
    REMOTE,
    RUNTIME,
    Command,
)

COMMANDS: tuple[Command, ...] = (
    Command(
        "bake",
        "Build the targets of bake and compose files together.",
        "pybuild.commands.bake:main",
        (*OPTIONS, ANNOTATIONS, CA, CACHE_MAX, CLUSTER, PROGRESS, RUNTIME, *REMOTE, *GLOBAL),
        ("[TARGET…]", 0, -1),
    ),
)
