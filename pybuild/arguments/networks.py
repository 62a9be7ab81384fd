"""Options of ``run`` and ``create`` about networks as the parts of a container's config [NET, CTR-90]."""

from __future__ import annotations

from pybuild.commandline.parser import Parsed
from pybuild.containers.defaults import exposed_ports
from pybuild.executor import network
from pybuild.model.errors import UsageError
from pybuild.networks.order import EndpointOrder, has_own_networks
from pybuild.networks.reading import (
    first_network,
    is_priority,
    others_of,
    read_address,
    read_endpoint,
    read_link,
    read_mac,
    read_published,
    read_servers,
    refuse_own,
    words_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


_default: list[tuple[str, str]] = []


def default_network() -> tuple[str, str]:
    """Return `default_mode`, which is looked for once a command."""
    from pybuild.networks.defaultmode import default_mode

    _default[:] = _default or [default_mode()]
    return _default[0]


def mode_of(parsed: Parsed) -> str:
    """Return the network of a container: ``host``, ``none``, ``container:NAME`` or a network's name.

    Raises:
        UsageError: there cannot be such a one.
    """
    given = parsed.many("network")
    return first_network(given) if given else default_network()[0]


def obstacle_to_own(parsed: Parsed) -> str:
    """Return why a container that names no network has this machine's, "": it has not."""
    return "" if parsed.many("network") else default_network()[1]


def networking(parsed: Parsed, image: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config about networks.

    Args:
        image: the config of the image, which exposes ports, too.

    Raises:
        UsageError: options are wrong, or contradict each other.
    """
    mode, host_text = mode_of(parsed), network.host_resolv_conf()
    ports = list(read_published(parsed.many("publish")))
    keys = (f"{one.port}/{one.protocol}" for one in ports)
    exposed = sorted({*exposed_ports(parsed.many("expose"), image), *keys})
    fields: dict[str, Any] = {
        "network": mode,
        "exposed": tuple(exposed),
        "dns": read_servers(parsed.many("dns"), host_text),
        "dns_search": tuple(parsed.many("dns-search")) or words_of(host_text, ("search", "domain")),
        "dns_options": tuple(parsed.many("dns-option")),
        "given": tuple(name for name in ("dns", "dns-search") if parsed.many(name)),
    }
    if not has_own_networks(mode):
        refuse_own(parsed.values, mode)
        return fields
    endpoints = [read_endpoint(text) for text in parsed.many("network")] or [EndpointOrder(mode)]
    endpoints[0] = _with_flags(parsed, endpoints[0])
    fields["networks"] = tuple(endpoints)
    if parsed.flag("publish-all"):
        ports += others_of(exposed, ports)
    fields["ports"] = tuple(ports)
    return fields


def connection_of(parsed: Parsed) -> EndpointOrder:
    """Return the place of a container on a network by the options of ``network connect``.

    Raises:
        UsageError: one of them is wrong.
    """
    priority = parsed.one("gw-priority", "0")
    if not is_priority(priority):
        raise UsageError(f"--gw-priority: {priority} is no number")
    aliases = tuple(parsed.many("alias"))
    name = parsed.positionals[0]
    return EndpointOrder(name, aliases, _addresses(parsed), "", int(priority), _links(parsed))


def _links(parsed: Parsed) -> tuple[tuple[str, str], ...]:
    return tuple(map(read_link, parsed.many("link")))


def _addresses(parsed: Parsed) -> tuple[str, ...]:
    return tuple(read_address(parsed.one(flag), flag) for flag in ("ip", "ip6") if parsed.one(flag))


def _with_flags(parsed: Parsed, endpoint: EndpointOrder) -> EndpointOrder:
    """Return the first network with the options that stand by themselves."""
    mac = parsed.one("mac-address")
    return endpoint._replace(
        aliases=(*endpoint.aliases, *parsed.many("network-alias")),
        addresses=(*endpoint.addresses, *_addresses(parsed)),
        mac=read_mac(mac) if mac else endpoint.mac,
        links=_links(parsed),
    )
