"""``pybuild network``: networks made, listed, told of and removed."""

from __future__ import annotations

import sys
from typing import Any

from pybuild.arguments.networks import connection_of
from pybuild.arguments.values import parse_pairs
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store
from pybuild.commands.several import confirmed, for_each, show_documents
from pybuild.containers import connecting
from pybuild.containers.containers import Containers
from pybuild.model.columns import NETWORKS, NETWORKS_SHOWN
from pybuild.model.errors import UserError
from pybuild.model.listing import list_text
from pybuild.networks.listing import ID_DIGITS, is_chosen, matcher, prune_matcher, row_of
from pybuild.networks.networks import Networks, NewNetwork, inspection


def _networks(parsed: Parsed) -> Networks:
    """Return the networks of the store, which is made first: a directory with networks alone is none."""
    with open_store(parsed) as store:
        return Networks(store.root)


def create(parsed: Parsed) -> int:
    """Make a network, and show its id."""
    order = NewNetwork(
        name=parsed.positionals[0],
        driver=parsed.one("driver", "bridge"),
        subnets=parsed.many("subnet"),
        gateways=parsed.many("gateway"),
        ranges=parsed.many("ip-range"),
        reserved=parsed.many("aux-address"),
        internal=parsed.flag("internal"),
        attachable=parsed.flag("attachable"),
        ipv6=parsed.flag("ipv6"),
        options=parse_pairs(parsed.many("opt"), "opt", from_environment=False),
        labels=parse_pairs(
            [_pair(text) for text in parsed.many("label")], "label", from_environment=False
        ),
    )
    print(_networks(parsed).create(order).id)
    return 0


def _pair(text: str) -> str:
    return text if "=" in text else text + "="


def connect(parsed: Parsed) -> int:
    """Bring a container to one more network [NET-30]."""
    place = connection_of(parsed)
    with open_store(parsed) as store:
        containers = Containers(store)
        container = containers.find(parsed.positionals[1])
        for warning in connecting.connect(containers, container, place):
            sys.stderr.write(f"warning: {warning}\n")
    return 0


def disconnect(parsed: Parsed) -> int:
    """Take a container off a network [NET-30]."""
    network, name = parsed.positionals
    with open_store(parsed) as store:
        containers = Containers(store)
        container = containers.find(name)
        connecting.disconnect(containers, container, network, force=parsed.flag("force"))
    return 0


def ls(parsed: Parsed) -> int:
    """List networks."""
    networks = _networks(parsed)
    matches = [matcher(networks, text) for text in parsed.many("filter")]
    shown = [one for one in networks.all() if is_chosen(one, matches)]
    whole = parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        sys.stdout.write("".join(f"{one.id if whole else one.id[:ID_DIGITS]}\n" for one in shown))
        return 0
    rows = [row_of(one, whole=whole) for one in shown]
    sys.stdout.write(list_text(parsed.one("format"), rows, NETWORKS, NETWORKS_SHOWN))
    return 0


def inspect(parsed: Parsed) -> int:
    """Show networks as docker's inspect does; those that are there also where another one is not."""
    networks = _networks(parsed)

    def look(name: str) -> dict[str, Any]:
        one = networks.find(name)
        return inspection(one, networks.records.living(one))

    return show_documents(parsed.one("format"), parsed.positionals, look)


def rm(parsed: Parsed) -> int:
    """Remove networks; one that cannot be keeps no other from it."""
    networks = _networks(parsed)

    def remove(name: str) -> bool:
        try:
            networks.remove(name)
        except UserError as error:
            if not (parsed.flag("force") and error.message.endswith("not found")):
                raise
            return False
        return True

    return for_each(parsed.positionals, remove)


def prune(parsed: Parsed) -> int:
    """Remove the networks that no container is on or refers to; asks first without ``--force``."""
    filters = parsed.many("filter")
    for text in filters:
        prune_matcher(text)  # before anybody is asked
    if not confirmed(parsed, "all networks that no container uses"):
        return 0
    with open_store(parsed) as store:
        removed = connecting.prune_networks(store, filters)
    if removed:
        sys.stdout.write("Deleted Networks:\n" + "".join(f"{one.name}\n" for one in removed))
    return 0
