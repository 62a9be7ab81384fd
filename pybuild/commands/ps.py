"""``pybuild ps`` and ``port``: containers as a table, for programs, or by a template; their ports."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.images import age, open_store
from pybuild.commands.listing import show_list
from pybuild.commands.localstore import with_store
from pybuild.containers.addresses import Places, ShownPort, ports_of, ports_text
from pybuild.containers.choosing import Choice
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.state import ContainerState
from pybuild.model.amounts import short_bytes
from pybuild.model.errors import UsageError, UserError
from pybuild.model.reference import Reference
from pybuild.networks.networks import Networks
from pybuild.volumes.mountpoint import MountKind

_TITLES = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Names": "NAMES",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "Size": "SIZE",
}
_SHOWN = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
_MOST_COMMAND = 20
_MOST_MOUNT = 15


def ps(parsed: Parsed) -> int:
    """List containers, the newest first: those that run, or all."""
    form = parsed.one("format")
    sized = parsed.flag("size") or (".Size" in form and not parsed.flag("quiet"))
    if sized:  # what a container wrote may be of all ids, and needs a worker to look at
        rows = with_store(parsed, lambda store: _rows(parsed, store, sized=True), to_read=True)
    else:
        with open_store(parsed, to_read=True) as store:
            rows = _rows(parsed, store, sized=False)
    if parsed.flag("quiet") and not form:
        sys.stdout.write("".join(f"{row['ID']}\n" for row in rows))
        return 0
    shown = [*_SHOWN, "Size"] if parsed.flag("size") else _SHOWN
    show_list(form, rows, _TITLES, shown, [{} for _ in rows])
    return 0


def _rows(parsed: Parsed, store: Store, *, sized: bool) -> list[dict[str, Any]]:
    containers = Containers(store)
    choice = Choice(
        parsed.many("filter"),
        lambda text: _images(store, text),
        lambda text: containers.find(text).config.created,
    )
    last = _last(parsed)
    shows_all = parsed.flag("all") or choice.shows_ended or last > 0
    known: list[tuple[Container, ContainerState]] = []
    for one in containers.list():
        state = one.state()
        if (shows_all or state.lives) and choice.fits(one.config, state, one.health_status()):
            known.append((one, state))
        if 0 < last <= len(known):
            break
    whole = parsed.flag("no-trunc")
    has_networks = any(one.config.networks for one, _ in known)
    places = Networks(store.root).all_places() if has_networks else {}
    return [
        _row(
            one,
            state,
            containers.sizes(one) if sized else None,
            _ports(one, places.get(one.config.id, ())),
            whole=whole,
        )
        for one, state in known
    ]


def _ports(one: Container, places: Places) -> Sequence[ShownPort]:
    """Return the ports of a container with networks of its own; of one that does not run, none."""
    return ports_of(one.config, places) if places else ()


def port(parsed: Parsed) -> int:
    """Show where the ports of a container are published."""
    name, *given = parsed.positionals
    with open_store(parsed, to_read=True) as store:
        container = Containers(store).find(name)
        places = Networks(store.root).places(container.config.id)
    published = [one for one in _ports(container, places) if one.address]
    if not given:
        sys.stdout.write("".join(f"{one.key} -> {one.place}\n" for one in published))
        return 0
    number, _, protocol = given[0].partition("/")
    bound = [one.place for one in published if one.key == f"{number}/{protocol or 'tcp'}"]
    if not bound:
        raise UserError(
            f"no public port '{given[0]}' published for {name}",
            hints=[f"pybuild port {name} lists what is published"],
        )
    sys.stdout.write("".join(f"{place}\n" for place in bound))
    return 0


def _last(parsed: Parsed) -> int:
    """Return how many of the newest are to be shown; 0 or less: all.

    Raises:
        UsageError: it is no number.
    """
    if parsed.flag("latest"):
        return 1
    text = parsed.one("last", "-1")
    if not text.removeprefix("-").isdecimal() or len(text) > 9:
        raise UsageError(f'invalid argument "{text}" for "-n, --last" flag: expected a number')
    return int(text)


def _images(store: Store, text: str) -> Collection[str]:
    """Return the names and the digest of an image, as containers may have them."""
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


def _row(
    one: Container,
    state: ContainerState,
    sizes: tuple[int, int] | None,
    ports: Sequence[ShownPort],
    *,
    whole: bool,
) -> dict[str, Any]:
    config = one.config
    command = _command(config.args)
    created = _datetime(config.created)
    volumes = [mount for mount in config.mounts if mount.kind is MountKind.VOLUME]
    mounts = [mount.source for mount in config.mounts if mount.source]
    return {
        "Command": f'"{command if whole else _cut(command, _MOST_COMMAND)}"',
        "CreatedAt": f"{created:%Y-%m-%d %H:%M:%S} +0000 UTC",
        "ID": config.id if whole else config.short_id,
        "Image": config.image,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(config.labels.items())),
        "LocalVolumes": str(len(volumes)),
        "Mounts": ",".join(name if whole else _cut(name, _MOST_MOUNT) for name in mounts),
        "Names": config.name,
        "Networks": ",".join(net.network for net in config.networks) or config.network,
        "Ports": ports_text(ports),
        "RunningFor": age(created),
        "Size": _size(sizes),
        "State": state.status,
        "Status": status_text(state, one.health_status()),
    }


def _command(args: Sequence[str]) -> str:
    """Return a command as docker lists it: arguments with blanks in quotes."""
    quoted = (f"'{word}'" if " " in word and place else word for place, word in enumerate(args))
    return " ".join(quoted)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _size(sizes: tuple[int, int] | None) -> str:
    if sizes is None:
        return "0B"
    return f"{short_bytes(sizes[0])} (virtual {short_bytes(sizes[1])})"


def _datetime(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC)


def status_text(state: ContainerState, health: str = "") -> str:
    """Return the state in docker's words [CTR-30, CTR-37]."""
    ended = age(_datetime(state.finished))
    match state.status:
        case "created":
            return "Created"
        case "running":
            up = f"Up {age(_datetime(state.started)).removesuffix(' ago')}"
            if not health:
                return up
            return f"{up} (health: {health})" if health == "starting" else f"{up} ({health})"
        case "paused":
            return f"Up {age(_datetime(state.started)).removesuffix(' ago')} (Paused)"
        case "restarting":
            return f"Restarting ({state.exit_code}) {ended}"
        case _:
            return f"Exited ({state.exit_code}) {ended}"
