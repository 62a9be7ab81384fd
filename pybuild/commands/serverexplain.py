"""``pybuild -H ADDR explain``: the builds of a server."""

from __future__ import annotations

from pybuild.client.builders import BuilderRecord
from pybuild.client.connect import connected
from pybuild.client.explain import reports
from pybuild.commandline.parser import Parsed
from pybuild.commands.explain import show
from pybuild.commands.serverbuild import run
from pybuild.explain.report import BuildReport


def main(parsed: Parsed, builder: BuilderRecord) -> int:
    """Show a build of a server's history; returns the exit code."""
    everything = parsed.flag("list") or bool(parsed.positionals)

    async def ask() -> list[BuildReport]:
        async with connected(builder) as channel:
            return await reports(channel, everything=everything)

    return show(parsed, lambda: run(ask()))
