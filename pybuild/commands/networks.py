"""``pybuild network``: networks made, listed, told of and removed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pybuild.arguments.values import parse_pairs
from pybuild.cache.space.filters import parse_moment
from pybuild.commandline.parser import Parsed
from pybuild.commands.disk import confirmed
from pybuild.commands.images import open_store
from pybuild.commands.listing import show_list
from pybuild.containers.containers import Containers
from pybuild.engine.host import SystemClock
from pybuild.model.errors import PybuildError, UsageError, UserError
from pybuild.model.gotemplate import go_json, rendered
from pybuild.model.text import boolean
from pybuild.networks.networks import Networks, NewNetwork, inspection
from pybuild.networks.records import Network

_TITLES = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
_SHOWN = ["ID", "Name", "Driver", "Scope"]
_ID_DIGITS = 12


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
        reserved=[text.rpartition("=")[2] for text in parsed.many("aux-address")],
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


def ls(parsed: Parsed) -> int:
    """List networks."""
    networks = _networks(parsed)
    matches = [_matcher(networks, text) for text in parsed.many("filter")]
    shown = [one for one in networks.all() if _is_chosen(one, matches)]
    whole = parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        sys.stdout.write("".join(f"{one.id if whole else one.id[:_ID_DIGITS]}\n" for one in shown))
        return 0
    rows = [_row(one, whole=whole) for one in shown]
    show_list(parsed.one("format"), rows, _TITLES, _SHOWN, [{} for _ in rows])
    return 0


def _row(network: Network, *, whole: bool) -> dict[str, Any]:
    return {
        "ID": network.id if whole else network.id[:_ID_DIGITS],
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "IPv6": str(network.ipv6).lower(),
        "Internal": str(network.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in network.labels.items()),
        "CreatedAt": inspection(network, ())["Created"],
    }


Matcher = tuple[str, Callable[[Network], bool]]


def _is_chosen(network: Network, matches: Sequence[Matcher]) -> bool:
    """Whether it matches one of the filters of each name."""
    names = {name for name, _ in matches}
    return all(any(fits(network) for one, fits in matches if one == name) for name in names)


def _matcher(networks: Networks, text: str) -> Matcher:
    name, _, value = text.partition("=")
    match name:
        case "name":
            return name, lambda one: value in one.name
        case "id":
            return name, lambda one: one.id.startswith(value)
        case "driver":
            return name, lambda one: one.driver == value
        case "scope":
            return name, lambda one: value == "local"
        case "type" if value in ("builtin", "custom"):
            return name, lambda one: one.is_user_defined == (value == "custom")
        case "dangling" if (dangles := boolean(value.lower())) is not None:
            return (
                name,
                lambda one: dangles == (one.is_user_defined and not networks.endpoints(one)),
            )
        case "label":
            return text, _label(value)
        case _:
            raise UsageError(
                f'invalid filter "{text}"',
                hints=["known: driver, dangling, id, label, name, scope, type=builtin or custom"],
            )


def _label(text: str) -> Callable[[Network], bool]:
    key, equals, value = text.partition("=")
    return lambda one: key in one.labels and (not equals or one.labels[key] == value)


def inspect(parsed: Parsed) -> int:
    """Show networks as docker's inspect does; those that are there also where another one is not."""
    networks = _networks(parsed)
    documents: list[dict[str, Any]] = []
    missing: UserError | None = None
    for name in parsed.positionals:
        try:
            one = networks.find(name)
            documents.append(inspection(one, networks.endpoints(one)))
        except UserError as error:
            missing = missing or error
    form = parsed.one("format")
    if form in ("", "json"):
        print(json.dumps(documents, indent=4) if not form else go_json(documents))
    else:
        sys.stdout.write("".join(f"{rendered(form, one)}\n" for one in documents))
    if missing is not None:
        raise missing
    return 0


def rm(parsed: Parsed) -> int:
    """Remove networks; one that cannot be keeps no other from it."""
    networks = _networks(parsed)
    failed: list[PybuildError] = []
    for name in parsed.positionals:
        try:
            networks.remove(name)
            print(name, flush=True)
        except PybuildError as error:
            if not (parsed.flag("force") and error.message.endswith("not found")):
                failed.append(error)
    if failed:
        first, *others = failed
        raise first.copy_with(message="; ".join(error.message for error in (first, *others)))
    return 0


def prune(parsed: Parsed) -> int:
    """Remove the networks that no container is on or refers to; asks first without ``--force``."""
    matches = [_prune_matcher(text) for text in parsed.many("filter")]
    if not confirmed(parsed, "all networks that no container uses"):
        return 0
    with open_store(parsed, to_read=True) as store:
        containers = Containers(store).list()
    names = {one.network for container in containers for one in container.config.networks}

    def is_needed(network: Network) -> bool:
        is_named = any(name == network.name or network.id.startswith(name) for name in names)
        return is_named or not _is_chosen(network, matches)

    removed = _networks(parsed).prune(is_needed)
    if removed:
        sys.stdout.write("Deleted Networks:\n" + "".join(f"{one.name}\n" for one in removed))
    return 0


def _prune_matcher(text: str) -> Matcher:
    name, _, value = text.partition("=")
    match name:
        case "until":
            moment = parse_moment(value, SystemClock().now())
            return name, lambda one: one.created / 1e9 < moment
        case "label":
            return text, _label(value)
        case "label!":
            has = _label(value)
            return text, lambda one: not has(one)
        case _:
            raise UsageError(f'invalid filter "{text}"', hints=["known: until=24h, label, label!"])
