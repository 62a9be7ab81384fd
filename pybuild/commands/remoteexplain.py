"""``pybuild -H ADDR explain``: the builds of a server."""

from __future__ import annotations

from pybuild.builders import Builder
from pybuild.commands.explain import show
from pybuild.commands.remote import run
from pybuild.daemon.client.connect import connected
from pybuild.daemon.client.explain import reports
from pybuild.explain.report import BuildReport
from pybuild.options import Parsed


def main(parsed: Parsed, builder: Builder) -> int:
    """Show a build of a server's history; returns the exit code."""
    everything = parsed.flag("list") or bool(parsed.positionals)

    async def ask() -> list[BuildReport]:
        async with connected(builder) as channel:
            return await reports(channel, everything=everything)

    return show(parsed, lambda: run(ask()))
