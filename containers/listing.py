"""Rows of containers, by docker's names for their fields."""

from __future__ import annotations

import os
import time

from pybuild.containers.addresses import network_settings, ports_of, ports_text
from pybuild.containers.containers import Containers
from pybuild.model.amounts import human_age, short_bytes
from pybuild.model.jsontext import as_object
from pybuild.model.labelstext import LabelsText
from pybuild.model.listing import cut
from pybuild.networks.records import NetworkFiles
from pybuild.volumes.mountpoint import MountKind, MountOrigin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from pybuild.cache.store import Store
    from pybuild.containers.addresses import Places, ShownPort
    from pybuild.containers.container import Container
    from pybuild.containers.state import ContainerState

_MOST_COMMAND = 20
_MOST_MOUNT = 15
_SECOND_NS = 1_000_000_000


def shown_ports(one: Container, places: Places) -> Sequence[ShownPort]:
    """Return the ports of a container with networks of its own; of one that does not run, none."""
    return ports_of(one.config, places) if places else ()


def names_of_image(store: Store, text: str) -> Collection[str]:
    """Return the names and the digest of an image, as containers may have them."""
    from pybuild.model.reference import Reference

    names = {text}
    try:
        names.add(Reference.parse(text).familiar.removesuffix(":latest"))
        names.add(Reference.parse(text).familiar)
    except ValueError:
        pass
    descriptor = store.images.resolve(text)
    if descriptor is not None:
        names.add(str(descriptor.digest))
    return names


def row_of(
    one: Container,
    state: ContainerState,
    sizes: tuple[int, int] | None,
    ports: Sequence[ShownPort],
    *,
    whole: bool,
) -> dict[str, Any]:
    config = one.config
    command = _command(config.args)
    volumes = [mount for mount in config.mounts if mount.kind == MountKind.VOLUME]
    mounts = [mount.source for mount in config.mounts if mount.source]
    return {
        "Command": f'"{command if whole else cut(command, _MOST_COMMAND)}"',
        "CreatedAt": time.strftime(
            "%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(config.created // _SECOND_NS)
        ),
        "ID": config.id if whole else config.short_id,
        "Image": config.image,
        "Labels": LabelsText.of(config.labels),
        "LocalVolumes": str(len(volumes)),
        "Mounts": ",".join(name if whole else cut(name, _MOST_MOUNT) for name in mounts),
        "Names": config.name,
        "Networks": ",".join(net.network for net in config.networks) or config.network,
        "Ports": ports_text(ports),
        "RunningFor": _age(config.created),
        "Size": _size(sizes),
        "State": state.status,
        "Status": status_text(state, one.health_status()),
    }


def container_entry(
    store: Store,
    one: Container,
    state: ContainerState,
    places: Places,
    sizes: tuple[int, int] | None,
    by_links: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a container's entry in docker's list, with the names that it has by links."""
    from pybuild.volumes.volumes import Volumes

    config, known = one.config, Volumes(store)
    of_host = as_object(config.shown.get("HostConfig"))
    annotations = {key: value for key, value in of_host.items() if key == "Annotations"}
    entry: dict[str, Any] = {
        "Id": config.id,
        "Names": [f"/{config.name}", *by_links],
        "Image": config.image,
        "ImageID": config.image_id or config.manifest,
        "Command": _command(config.args),
        "Created": config.created // _SECOND_NS,
        "Ports": [_port(one) for one in shown_ports(one, places)],
        "Labels": dict(config.labels),
        "State": state.status,
        "Status": status_text(state, one.health_status()),
        "HostConfig": {"NetworkMode": config.network, **annotations},
        "NetworkSettings": {"Networks": network_settings(config, places)["Networks"]},
        "Mounts": [
            mount.shown(known.mountpoint(mount.source) if mount.kind == MountKind.VOLUME else "")
            for mount in config.mounts
            if mount.origin != MountOrigin.TMPFS
        ],
    }
    if sizes is not None:
        entry |= {"SizeRw": sizes[0], "SizeRootFs": sizes[1]}
    return entry


def _port(port: ShownPort) -> dict[str, Any]:
    shown: dict[str, Any] = {"IP": port.address} if port.address else {}
    shown["PrivatePort"] = port.private
    if port.address:
        shown["PublicPort"] = port.public
    return {**shown, "Type": port.protocol}


def _command(args: Sequence[str]) -> str:
    """Return a command as docker lists it: arguments with blanks in quotes."""
    quoted = (f"'{word}'" if " " in word and place else word for place, word in enumerate(args))
    return " ".join(quoted)


def _size(sizes: tuple[int, int] | None) -> str:
    if sizes is None:
        return "0B"
    return f"{short_bytes(sizes[0])} (virtual {short_bytes(sizes[1])})"


def _age(ns: int) -> str:
    """Return how long ago a moment is, in docker's words."""
    return human_age(time.time() - ns // _SECOND_NS)


def status_text(state: ContainerState, health: str = "") -> str:
    """Return the state in docker's words [CTR-30, CTR-37]."""
    match state.status:
        case "created":
            return "Created"
        case "running":
            up = f"Up {_age(state.started).removesuffix(' ago')}"
            if not health:
                return up
            return f"{up} (health: {health})" if health == "starting" else f"{up} ({health})"
        case "paused":
            return f"Up {_age(state.started).removesuffix(' ago')} (Paused)"
        case "restarting":
            return f"Restarting ({state.exit_code}) {_age(state.finished)}"
        case _:
            return f"Exited ({state.exit_code}) {_age(state.finished)}"


def rows_of(
    store: Store, filters: Sequence[str], *, all: bool, last: int, sized: bool, whole: bool
) -> list[dict[str, Any]]:
    """Return the rows of containers, the newest first: those that run, or *all*.

    Args:
        last: so many of the newest, whatever their state; 0 or less: no limit.
        sized: with the sizes of their files; *whole*: nothing is shortened.

    Raises:
        UsageError: a filter is none.
    """
    containers = Containers(store)
    return [
        row_of(
            one,
            state,
            containers.sizes(one) if sized else None,
            shown_ports(one, places),
            whole=whole,
        )
        for one, state, places in chosen(
            containers, store, filters, all=all, last=last, for_ports=True
        )
    ]


def chosen(
    containers: Containers,
    store: Store,
    filters: Sequence[str],
    *,
    all: bool,
    last: int,
    for_ports: bool = False,
) -> list[tuple[Container, ContainerState, Places]]:
    """Return the containers of a list, each with its state and its places on networks; as `rows_of`.

    Args:
        for_ports: places are needed of those alone that have some.
    """
    choice = None
    networks = NetworkFiles(os.path.join(store.root, "networks"))
    if filters:
        from pybuild.containers.choosing import Choice

        choice = Choice(
            filters,
            lambda text: names_of_image(store, text),
            lambda text: containers.find(text).config.created,
            networks=lambda text: _network_name(networks, text),
        )
    shows_all = all or last > 0 or (choice is not None and choice.shows_ended)
    known: list[tuple[Container, ContainerState]] = []
    for one, state in containers.states():
        if (shows_all or state.lives) and (
            choice is None or choice.fits(one.config, state, one.health_status())
        ):
            known.append((one, state))
        if 0 < last <= len(known):
            break
    has_networks = any(
        one.config.networks and (one.config.ports or one.config.exposed or not for_ports)
        for one, _ in known
    )
    places = networks.all_places() if has_networks else {}
    return [(one, state, places.get(one.config.id, ())) for one, state in known]


def _network_name(networks: NetworkFiles, text: str) -> str:
    """Return the name of the network that *text* names by its name or id, *text* where there is none."""
    from pybuild.executor.zygote.faults import Fault

    try:
        return networks.find(text).name
    except Fault:
        return text
