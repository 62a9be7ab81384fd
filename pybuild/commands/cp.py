"""``pybuild cp``: files out of containers, and into them."""

from __future__ import annotations

import asyncio

from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import with_engine
from pybuild.containers.containers import Containers
from pybuild.containers.copying import copy_in, copy_out
from pybuild.engine.engine import Engine
from pybuild.model.errors import UsageError


def cp(parsed: Parsed) -> int:
    """Copy between a container and this machine; ``-`` is a tar on standard input or output."""
    source, dest = map(_place, parsed.positionals)
    if bool(source[0]) == bool(dest[0]):
        text = "copying between containers is not supported" if source[0] else ""
        raise UsageError(
            text or "one of the two must be in a container: CONTAINER:PATH",
            hints=["pybuild cp CONTAINER:PATH PATH, or the other way round"],
        )
    follow, owners = parsed.flag("follow-link"), parsed.flag("archive")

    async def work(engine: Engine) -> None:
        container = await asyncio.to_thread(Containers(engine.store).find, source[0] or dest[0])
        if source[0]:
            await copy_out(engine, container, source[1], dest[1], follow=follow, owners=owners)
        else:
            await copy_in(engine, container, source[1], dest[1], follow=follow)

    with_engine(parsed, work)
    return 0


def _place(text: str) -> tuple[str, str]:
    """Return the container, or "" for this machine, and the path."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", "./", "../", ".")) or not name:
        return "", text
    return name, path
