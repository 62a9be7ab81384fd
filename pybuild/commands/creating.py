"""``pybuild create``, and the first half of ``pybuild run``: from an image to a container."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from pybuild.arguments.containers import (
    health_check,
    log_config,
    mounts_of,
    only_shown,
    stopping,
    surroundings,
)
from pybuild.arguments.environment import platforms_of
from pybuild.arguments.networks import mode_of, networking, obstacle_to_own
from pybuild.arguments.privileges import namespaces_of, privileges_of
from pybuild.arguments.variables import environment_of, labels_of
from pybuild.commandline.parser import Parsed
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.defaults import command_of, exposed_ports, read_restart, workdir_with
from pybuild.containers.environment import texts_of
from pybuild.containers.image import find_image
from pybuild.containers.making import make_container, make_of_tree
from pybuild.containers.names import new_id
from pybuild.containers.namespaces import hostname_for
from pybuild.containers.privileges import has_own_namespace
from pybuild.containers.steps import find_init
from pybuild.engine.engine import Engine
from pybuild.engine.interruptible import run_interruptible
from pybuild.engine.settings import load_settings
from pybuild.model.errors import UsageError
from pybuild.networks.defaultmode import note
from pybuild.networks.reading import has_hosts_servers, resolv_conf_with


def create(parsed: Parsed) -> int:
    """Create a container, and print its id."""

    async def work() -> str:
        async with Engine(load_settings(parsed.one("config"), parsed.one("root"))) as engine:
            return (await create_container(parsed, engine)).config.id

    sys.stdout.write(run_interruptible(work()) + "\n")
    return 0


async def create_container(parsed: Parsed, engine: Engine, *, attached: bool = True) -> Container:
    """Make the container that the command line describes; nothing runs.

    Args:
        attached: somebody will follow it from its first byte on.

    Raises:
        UsageError, UserError, EnvironmentFault: there can be none.
    """
    name, *command = parsed.positionals
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError("a container has one platform", hints=["leave out the others"])
    cidfile = parsed.one("cidfile")
    if cidfile and os.path.lexists(cidfile):
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        )
    if is_stage(parsed):
        container = await _of_stage(parsed, engine, command, attached=attached)
    else:
        image = await find_image(
            engine, name, platforms[0] if platforms else None, parsed.one("pull", "missing")
        )
        described = _describe(parsed, engine, command, image.config, attached=attached)
        container = await make_container(engine, described, image, mounts_of(parsed))
    if obstacle := obstacle_to_own(parsed):
        sys.stderr.write(f"warning: {note(obstacle)}\n")
    if cidfile:
        await asyncio.to_thread(_note_id, Containers(engine.store), container, cidfile)
    return container


def is_stage(parsed: Parsed) -> bool:
    """Return whether a stage is to run, not an image.

    Raises:
        UsageError: options of that without it.
    """
    if parsed.one("stage") or parsed.one("from-step"):
        return True
    for name in ("file", "build-arg"):
        if parsed.many(name):
            raise UsageError(f"--{name} needs --stage or --from-step")
    return False


async def _of_stage(
    parsed: Parsed, engine: Engine, command: Sequence[str], *, attached: bool
) -> Container:
    from pybuild.commands.runstage import stage_of

    async with stage_of(parsed, engine) as tree:
        image: dict[str, Any] = tree.config.get("config") or {}
        described = _describe(parsed, engine, command, image, attached=attached)
        return await make_of_tree(engine, described, tree.snapshot, image, mounts_of(parsed))


def _note_id(containers: Containers, container: Container, cidfile: str) -> None:
    try:
        with open(cidfile, "x", encoding="ascii") as file:
            file.write(container.config.id)
    except OSError as error:
        containers.remove(container, volumes=True)
        raise UsageError(f"--cidfile {cidfile}: {(error.strerror or '').lower()}") from error


def _describe(
    parsed: Parsed,
    engine: Engine,
    command: Sequence[str],
    image: dict[str, Any],
    *,
    attached: bool,
) -> ContainerConfig:
    """Return the config, but for what is known of the image's layers only when they are here."""
    id, mode = new_id(), mode_of(parsed)
    given = parsed.values.get("entrypoint")
    entrypoint, cmd = command_of(given[-1:] if given else None, command, image)
    if parsed.flag("init") and find_init() is None:
        raise UsageError("--init needs an init program", hints=["install the package tini"])
    namespaces = namespaces_of(parsed)
    restart = read_restart(parsed.one("restart"))
    if parsed.flag("rm") and restart.name != "no":
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    return ContainerConfig(
        id=id,
        name=parsed.one("name"),
        image=parsed.positionals[0],
        manifest="",
        deltas=(),
        created=time.time_ns(),
        entrypoint=entrypoint,
        cmd=cmd,
        env=environment_of(parsed, image),
        cwd=workdir_with(parsed.one("workdir"), image),
        user=parsed.one("user") or image.get("User") or "",
        hostname=hostname_for(namespaces, parsed.one("hostname"), id[:12]),
        labels=labels_of(parsed, image),
        exposed=exposed_ports(parsed.many("expose"), image),
        tty=parsed.flag("tty"),
        stdin=parsed.flag("interactive"),
        stdin_once=parsed.flag("interactive") and not parsed.flag("detach"),
        health=health_check(parsed, image),
        shell=texts_of(image, "Shell"),
        attached=attached,
        resolv_conf=resolv_conf_with(
            engine.resolv_conf(host_network=has_hosts_servers(mode)),
            *map(parsed.many, ("dns", "dns-search", "dns-option")),
        ),
        readonly=parsed.flag("read-only"),
        restart=restart,
        auto_remove=parsed.flag("rm"),
        log=log_config(parsed),
        init=parsed.flag("init"),
        privileges=privileges_of(
            parsed, own_network=has_own_namespace(mode), own_ipc=namespaces.has_own_ipc
        ),
        namespaces=namespaces,
        domainname=parsed.one("domainname"),
        shown=only_shown(parsed),
        **stopping(parsed, image),
        **surroundings(parsed),
        **networking(parsed, image),
    )
