"""Networks by filters, and the rows of their lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pybuild.cache.space.filters import parse_moment
from pybuild.engine.host import SystemClock
from pybuild.model.errors import UsageError
from pybuild.model.text import boolean
from pybuild.networks.networks import Networks, inspection
from pybuild.networks.records import Network

ID_DIGITS = 12


def row_of(network: Network, *, whole: bool) -> dict[str, Any]:
    return {
        "ID": network.id if whole else network.id[:ID_DIGITS],
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "IPv6": str(network.ipv6).lower(),
        "Internal": str(network.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in network.labels.items()),
        "CreatedAt": inspection(network, ())["Created"],
    }


Matcher = tuple[str, Callable[[Network], bool]]


def is_chosen(network: Network, matches: Sequence[Matcher]) -> bool:
    """Whether it matches one of the filters of each name."""
    names = {name for name, _ in matches}
    return all(any(fits(network) for one, fits in matches if one == name) for name in names)


def matcher(networks: Networks, text: str) -> Matcher:
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
                lambda one: dangles == (one.is_user_defined and not networks.records.living(one)),
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


def prune_matcher(text: str) -> Matcher:
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
