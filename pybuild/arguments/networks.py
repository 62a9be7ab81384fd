"""Options of ``run`` and ``create`` about networks as the parts of a container's config [NET, CTR-90]."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pybuild.commandline.parser import Parsed
from pybuild.executor import network
from pybuild.frontend.lowering.ports import PortSpec, parse_port
from pybuild.model.errors import UsageError, UserError
from pybuild.model.jsontext import as_object
from pybuild.networks.order import (
    BRIDGE,
    CONTAINER,
    HOST,
    NONE,
    EndpointOrder,
    PortOrder,
    has_own_networks,
)
from pybuild.networks.pools import packed_address, spelled

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_PRIORITY_DIGITS = 9
_NEEDS_BRIDGE = ("publish", "publish-all", "network-alias", "ip", "ip6", "mac-address")


def mode_of(parsed: Parsed) -> str:
    """Return the network of a container: ``host``, ``none``, ``container:NAME`` or a network's name.

    What needs a network of the container's own gets the default one.

    Raises:
        UsageError: there cannot be such a one.
    """
    given = [_name(text) for text in parsed.many("network")]
    if not given:
        needs = any(option in parsed.values for option in _NEEDS_BRIDGE)
        return BRIDGE if needs and os.geteuid() == 0 else HOST
    given = [BRIDGE if name == "default" else name for name in given]
    for name in given:
        if len(given) > 1 and (name in (HOST, NONE) or name.startswith(CONTAINER)):
            raise UsageError(
                f"conflicting options: --network {name} goes with no other network",
                hints=["leave out one of them"],
            )
        if given.count(name) > 1:
            raise UsageError(
                f'network "{name}" is specified multiple times', hints=["leave out one of them"]
            )
    return given[0]


def networking(parsed: Parsed, image: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config about networks.

    Args:
        image: the config of the image, which tells the ports for ``--publish-all``.

    Raises:
        UsageError: options are wrong, or contradict each other.
    """
    mode, host_text = mode_of(parsed), network.host_resolv_conf()
    fields: dict[str, Any] = {
        "network": mode,
        "dns": _servers(parsed, host_text),
        "dns_search": tuple(parsed.many("dns-search")) or _words(host_text, ("search", "domain")),
        "dns_options": tuple(parsed.many("dns-option")),
    }
    if not has_own_networks(mode):
        _refuse_own(parsed, mode)
        return fields
    endpoints = [_endpoint(text) for text in parsed.many("network")] or [EndpointOrder(mode)]
    endpoints[0] = _with_flags(parsed, endpoints[0])
    fields["networks"] = tuple(endpoints)
    fields["ports"] = tuple(_ports(parsed, image))
    return fields


def _name(text: str) -> str:
    """Return the name in ``NAME`` or ``name=NAME,…``."""
    if "=" not in text:
        return text
    known: dict[str, str] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        known[key] = value
    if not known.get("name"):
        raise UsageError(f"--network {text}: no name", hints=["write --network name=NAME,…"])
    return known["name"]


def _endpoint(text: str) -> EndpointOrder:
    name = _name(text)
    if "=" not in text:
        return EndpointOrder(BRIDGE if name == "default" else name)
    aliases, addresses, mac, priority = list[str](), list[str](), "", 0
    for part in text.split(","):
        key, _, value = part.partition("=")
        match key:
            case "name":
                pass
            case "alias":
                aliases.append(value)
            case "ip" | "ip6":
                addresses.append(_address(value, key))
            case "mac-address":
                mac = _mac(value)
            case "gw-priority" if _is_priority(value):
                priority = int(value)
            case _:
                raise UsageError(
                    f"--network {text}: invalid field {part}",
                    hints=["known: name, alias, ip, ip6, mac-address, gw-priority"],
                )
    return EndpointOrder(name, tuple(aliases), tuple(addresses), mac, priority)


def connection_of(parsed: Parsed) -> EndpointOrder:
    """Return the place of a container on a network by the options of ``network connect``.

    Raises:
        UsageError: one of them is wrong.
    """
    priority = parsed.one("gw-priority", "0")
    if not _is_priority(priority):
        raise UsageError(f"--gw-priority: {priority} is no number")
    aliases = tuple(parsed.many("alias"))
    name = parsed.positionals[0]
    return EndpointOrder(name, aliases, _addresses(parsed), "", int(priority))


def _is_priority(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) <= _PRIORITY_DIGITS


def _addresses(parsed: Parsed) -> tuple[str, ...]:
    return tuple(_address(parsed.one(flag), flag) for flag in ("ip", "ip6") if parsed.one(flag))


def _with_flags(parsed: Parsed, endpoint: EndpointOrder) -> EndpointOrder:
    """Return the first network with the options that stand by themselves."""
    mac = parsed.one("mac-address")
    return endpoint._replace(
        aliases=(*endpoint.aliases, *parsed.many("network-alias")),
        addresses=(*endpoint.addresses, *_addresses(parsed)),
        mac=_mac(mac) if mac else endpoint.mac,
    )


def _refuse_own(parsed: Parsed, mode: str) -> None:
    for option in ("ip", "ip6", "mac-address", "network-alias"):
        if option in parsed.values:
            raise UsageError(
                f"conflicting options: --{option} needs a network of the container's own, and "
                f"{mode} is none",
                hints=["make one: pybuild network create NAME; then --network NAME"],
            )
    if mode != HOST and ("publish" in parsed.values or "publish-all" in parsed.values):
        raise UsageError(
            f"conflicting options: nothing can be published with --network {mode}",
            hints=["leave out one of the two"],
        )


def _address(text: str, option: str) -> str:
    try:
        packed = packed_address(text)
    except ValueError as error:
        raise UsageError(f"--{option}: {error}") from None
    if (len(packed) == 16) != (option == "ip6"):
        raise UsageError(f"--{option} {text}: an address of the other version of IP")
    return spelled(text)


def _mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    if not _MAC.match(mac):
        raise UsageError(f"--mac-address: {text} is not a valid mac address")
    return mac


def _servers(parsed: Parsed, host_text: str) -> tuple[str, ...]:
    given = tuple(parsed.many("dns"))
    for server in given:
        _check_server(server)
    return given or _words(host_text, ("nameserver",))


def _check_server(text: str) -> None:
    try:
        packed_address(text.partition("%")[0])
    except ValueError:
        raise UsageError(f"--dns: {text} is not an ip address") from None


def _words(text: str, directives: Sequence[str]) -> tuple[str, ...]:
    lines = [line.split() for line in text.splitlines()]
    return tuple(
        word for words in lines if words[:1] and words[0] in directives for word in words[1:]
    )


def _ports(parsed: Parsed, image: Mapping[str, Any]) -> Iterable[PortOrder]:
    published: set[tuple[str, int]] = set()
    for text in parsed.many("publish"):
        try:
            spec = parse_port(text)
        except UserError as error:
            raise UsageError(f"-p {text}: {error.message}") from error
        for order in _orders(spec):
            published.add((order.protocol, order.port))
            yield order
    if parsed.flag("publish-all"):
        for text in as_object(image.get("ExposedPorts")):
            for order in _orders(parse_port(text)):
                if (order.protocol, order.port) not in published:
                    yield order


def _orders(spec: PortSpec) -> Iterable[PortOrder]:
    protocol, host = spec.protocol.lower(), spec.host_numbers
    address = spec.address.removeprefix("[").removesuffix("]")
    if len(spec.numbers) == 1 or not host:
        first, last = (host[0], host[-1]) if host else (0, 0)
        for number in spec.numbers:
            yield PortOrder(protocol, number, address, first, last)
    else:
        for number, one in zip(spec.numbers, host, strict=True):
            yield PortOrder(protocol, number, address, one, one)
