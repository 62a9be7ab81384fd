"""``pybuild create``, and the first half of ``pybuild run``: from an image to a container."""

from __future__ import annotations

import os
import sys
import time

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
from pybuild.commands.localstore import dns_of, open_store, with_engine
from pybuild.containers.beginning import noted
from pybuild.containers.config import ContainerConfig
from pybuild.containers.defaults import command_of, read_restart, workdir_with
from pybuild.containers.environment import texts_of
from pybuild.containers.image import find_image, find_stored
from pybuild.containers.making import make_at_once, make_container, make_of_tree
from pybuild.containers.names import new_id
from pybuild.containers.namespaces import hostname_for
from pybuild.containers.privileges import has_own_namespace
from pybuild.containers.steps import find_init
from pybuild.engine.interruptible import before_signals
from pybuild.executor.network import step_resolv_conf
from pybuild.model.errors import UsageError
from pybuild.networks.reading import has_hosts_servers, resolv_conf_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pybuild.cache.store import Store
    from pybuild.commandline.parser import Parsed
    from pybuild.containers.container import Container
    from pybuild.engine.engine import Engine
    from pybuild.executor.network import DnsSettings
    from pybuild.model.platform import Platform

    Begin = Callable[[Store, Container], object]


def create(parsed: Parsed) -> int:
    """Create a container, and print its id."""
    made = create_container(parsed, lambda store, container: None)
    sys.stdout.write(made.config.id + "\n")
    return 0


def create_container(parsed: Parsed, begin: Begin, *, attached: bool = True) -> Container:
    """Return the container that the command line describes, made and begun before a signal ends us.

    Args:
        attached: somebody will follow it from its first byte on.

    Raises:
        UsageError, UserError, EnvironmentFault: there can be none.
    """
    platform = _platform_of(parsed)

    def all_of(store: Store, container: Container) -> Container:
        if obstacle := obstacle_to_own(parsed):
            from pybuild.networks.defaultmode import note

            sys.stderr.write(f"warning: {note(obstacle)}\n")
        begin(store, noted(store, container, parsed.one("cidfile")))
        return container

    async def by_engine(engine: Engine) -> Container:
        return all_of(engine.store, await _create(parsed, engine, platform, attached=attached))

    if not is_stage(parsed):
        name, pull = parsed.positionals[0], parsed.one("pull", "missing")
        with open_store(parsed) as store, before_signals():
            image = find_stored(store, name, platform, pull)
            if image is not None:
                described = describe(parsed, dns_of(parsed), image.config, attached=attached)
                made = make_at_once(store, described, image, mounts_of(parsed))
                if made is not None:
                    return all_of(store, made)
    return with_engine(parsed, by_engine)


async def _create(
    parsed: Parsed, engine: Engine, platform: Platform | None, *, attached: bool
) -> Container:
    mounts, dns = mounts_of(parsed), engine.settings.dns
    if is_stage(parsed):
        from pybuild.commands.runstage import stage_of

        async with stage_of(parsed, engine) as tree:
            config: dict[str, Any] = tree.config.get("config") or {}
            described = describe(parsed, dns, config, attached=attached)
            return await make_of_tree(engine, described, tree.snapshot, config, mounts)
    pull = parsed.one("pull", "missing")
    image = await find_image(engine, parsed.positionals[0], platform, pull)
    described = describe(parsed, dns, image.config, attached=attached)
    return await make_container(engine, described, image, mounts)


def _platform_of(parsed: Parsed) -> Platform | None:
    """Return the platform that was given, when the file for the id is not there yet.

    Raises:
        UsageError: there are several, or it is.
    """
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError("a container has one platform", hints=["leave out the others"])
    cidfile = parsed.one("cidfile")
    if cidfile and os.path.lexists(cidfile):
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        )
    return platforms[0] if platforms else None


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


def describe(
    parsed: Parsed, dns: DnsSettings | None, image: dict[str, Any], *, attached: bool
) -> ContainerConfig:
    """Return the config, but for what is known of the image's layers only when they are here."""
    id, mode = new_id(), mode_of(parsed)
    given = parsed.values.get("entrypoint")
    entrypoint, cmd = command_of(given[-1:] if given else None, parsed.positionals[1:], image)
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
        tty=parsed.flag("tty"),
        stdin=parsed.flag("interactive"),
        stdin_once=parsed.flag("interactive") and not parsed.flag("detach"),
        health=health_check(parsed, image),
        shell=texts_of(image, "Shell"),
        attached=attached,
        resolv_conf=resolv_conf_with(
            step_resolv_conf(host_network=has_hosts_servers(mode), dns=dns),
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
