"""The addresses of a container as docker shows them: its ports in ``ps``, its networks in ``inspect``. Pure."""

from __future__ import annotations

from pybuild.containers.config import ContainerConfig
from pybuild.model.border import NamedTuple
from pybuild.model.jsontext import as_object
from pybuild.networks.order import BRIDGE, EndpointOrder, has_own_networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from pybuild.networks.records import Network, NetworkEndpoint

    Places = Sequence[tuple[Network, NetworkEndpoint]]
    """The networks that a running container is on, with its endpoints there."""

_NOWHERE: Mapping[str, Any] = {
    "IPAMConfig": None,
    "Links": None,
    "Aliases": None,
    "MacAddress": "",
    "DriverOpts": None,
    "NetworkID": "",
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
}

_OF_BRIDGE = (
    *("EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen"),
    *("IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress"),
)
"""Shown of the default bridge in a second place: it is older than the others, and what many scripts read."""


class ShownPort(NamedTuple):
    """A port of a container: published at an address of the host, or exposed alone (*address* is "")."""

    private: int
    protocol: str
    address: str = ""
    public: int = 0

    @property
    def key(self) -> str:
        return f"{self.private}/{self.protocol}"

    @property
    def place(self) -> str:
        """The host's address and number."""
        return (
            f"[{self.address}]:{self.public}"
            if ":" in self.address
            else f"{self.address}:{self.public}"
        )


def ports_of(config: ContainerConfig, places: Places) -> list[ShownPort]:
    """Return the ports of a running container, by number [CTR-96]."""
    published = [
        ShownPort(one.to_port, one.protocol, one.address, one.port)
        for _, endpoint in places
        for one in endpoint.ports
    ]
    known = {one.key for one in published}
    for exposed in config.exposed:
        port, _, protocol = exposed.partition("/")
        if exposed not in known and port.isdecimal():
            published.append(ShownPort(int(port), protocol))
    return sorted(published, key=lambda one: (one.private, one.address, one.public, one.protocol))


def ports_text(ports: Iterable[ShownPort]) -> str:
    """Return the column of ``ps``; neighbours with the same number on both sides are one range."""
    ranges: list[list[ShownPort]] = []
    moved: list[tuple[int, str]] = []
    order = sorted(ports, key=lambda one: (one.address, one.protocol, one.private))
    for one in order:
        if one.address and one.public != one.private:
            moved.append((one.private, f"{one.place}->{one.key}"))
        elif ranges and _follows(ranges[-1][-1], one):
            ranges[-1].append(one)
        else:
            ranges.append([one])
    return ", ".join([*map(_range_text, ranges), *(text for _, text in sorted(moved))])


def _follows(last: ShownPort, one: ShownPort) -> bool:
    return last._replace(private=one.private, public=one.public) == one and (
        one.private - last.private == 1
    )


def _range_text(ports: Sequence[ShownPort]) -> str:
    first, last = ports[0], ports[-1]
    numbers = str(first.private) if first == last else f"{first.private}-{last.private}"
    text = f"{numbers}/{first.protocol}"
    return f"{_host(first.address)}:{numbers}->{text}" if first.address else text


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def port_map(ports: Iterable[ShownPort]) -> dict[str, list[dict[str, str]] | None]:
    """Return docker's map of ports: of each its bindings, None where it is exposed alone [CTR-71]."""
    bindings: dict[str, list[dict[str, str]] | None] = {}
    for one in ports:
        if not one.address:
            bindings[one.key] = None
            continue
        known = bindings.get(one.key) or []
        bindings[one.key] = [*known, {"HostIp": one.address, "HostPort": str(one.public)}]
    return bindings


def port_bindings(config: ContainerConfig) -> dict[str, list[dict[str, str]]]:
    """Return the ports as they were asked for, one by one [CTR-95]."""
    bindings: dict[str, list[dict[str, str]]] = {}
    all_are = as_object(config.shown.get("HostConfig")).get("PublishAllPorts")
    for one in config.ports:
        if all_are and not (one.first or one.address):
            continue
        number = "" if not one.first else str(one.first)
        if one.last > one.first:
            number += f"-{one.last}"
        bindings.setdefault(f"{one.port}/{one.protocol}", []).append(
            {"HostIp": one.address, "HostPort": number}
        )
    return dict(sorted(bindings.items()))


def network_settings(config: ContainerConfig, places: Places) -> dict[str, Any]:
    """Return docker's NetworkSettings; its maps are never null [CTR-71]."""
    shown = as_object(config.shown.get("Endpoints"))
    named = {
        one.network: {**_NOWHERE, **_wishes(one, as_object(shown.get(one.network)))}
        for one in config.networks
    }
    if not has_own_networks(config.network):
        named = {config.network: dict(_NOWHERE)}
    for network, endpoint in places:
        key = network.id if network.id in named else network.name
        named[key] = {**named.get(key, _NOWHERE), **_endpoint(network, endpoint)}
    default = next((_endpoint(*one) for one in places if one[0].name == BRIDGE), _NOWHERE)
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": port_map(ports_of(config, places)) if places else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: default[name] for name in _OF_BRIDGE},
        "Networks": named,
    }


def _wishes(one: EndpointOrder, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an endpoint that was asked for, and is there before it runs."""
    addresses = {f"IPv{6 if ':' in text else 4}Address": text for text in one.addresses}
    return {
        **shown,
        "IPAMConfig": {**addresses, **as_object(shown.get("IPAMConfig"))} or None,
        "Aliases": list(one.aliases) or None,
        "Links": _links(one),
        "MacAddress": one.mac,
        "GwPriority": one.priority,
    }


def _links(one: EndpointOrder) -> list[str] | None:
    """Return its links; those of the default bridge are the container's."""
    if one.network == BRIDGE:
        return None
    return [f"{name}:{alias}" for name, alias in one.links] or None


def _endpoint(network: Network, endpoint: NetworkEndpoint) -> dict[str, Any]:
    from pybuild.networks.records import endpoint_id  # its locks are of one system alone

    gateways = {":" in subnet.gateway: subnet.gateway for subnet in network.subnets}
    lengths = {":" in text: int(text.partition("/")[2]) for text in endpoint.addresses}
    return {
        "Aliases": list(endpoint.aliases) or None,
        "MacAddress": endpoint.mac,
        "NetworkID": network.id,
        "EndpointID": endpoint_id(endpoint),
        "Gateway": "" if network.internal else gateways.get(False, ""),
        "IPAddress": endpoint.address(4),
        "IPPrefixLen": lengths.get(False, 0),
        "IPv6Gateway": "" if network.internal else gateways.get(True, ""),
        "GlobalIPv6Address": endpoint.address(6),
        "GlobalIPv6PrefixLen": lengths.get(True, 0),
        "DNSNames": list(endpoint.names) or None,
    }
