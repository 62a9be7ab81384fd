"""``pybuild ps`` and ``port``: containers as a table, for programs, or by a template; their ports."""

from __future__ import annotations

import sys
from typing import Any

from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store, with_store
from pybuild.containers.choosing import Choice
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.listing import names_of_image, row_of, shown_ports
from pybuild.containers.state import ContainerState
from pybuild.model.errors import UsageError, UserError
from pybuild.model.listing import show_list
from pybuild.networks.networks import Networks

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
        lambda text: names_of_image(store, text),
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
        row_of(
            one,
            state,
            containers.sizes(one) if sized else None,
            shown_ports(one, places.get(one.config.id, ())),
            whole=whole,
        )
        for one, state in known
    ]


def port(parsed: Parsed) -> int:
    """Show where the ports of a container are published."""
    name, *given = parsed.positionals
    with open_store(parsed, to_read=True) as store:
        container = Containers(store).find(name)
        places = Networks(store.root).places(container.config.id)
    published = [one for one in shown_ports(container, places) if one.address]
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
