"""The addresses of a container, as `ps`, `port` and `inspect` show them."""

from __future__ import annotations

from pybuild.containers.addresses import (
    ShownPort,
    network_settings,
    port_bindings,
    port_map,
    ports_of,
    ports_text,
)
from pybuild.containers.config import ContainerConfig
from pybuild.networks.order import EndpointOrder, PortOrder
from pybuild.networks.records import Network, NetworkEndpoint, Port, Subnet

NETWORK = Network("ab" * 32, "web", "bridge", 1, subnets=(Subnet("172.20.0.0/16", "172.20.0.1"),))
ENDPOINT = NetworkEndpoint(
    container="cd" * 32,
    name="one",
    mac="02:42:ac:14:00:02",
    addresses=("172.20.0.2/16", "fd00::2/64"),
    names=("one", "alias"),
    aliases=("alias",),
    ports=(Port("tcp", "0.0.0.0", 8080, 80), Port("tcp", "::", 8080, 80)),
)
CONFIG = ContainerConfig(
    id="cd" * 32,
    name="one",
    image="app",
    manifest="sha256:1",
    deltas=(),
    network="web",
    networks=(EndpointOrder("web", ("db",), ("172.20.0.9",)),),
    ports=(PortOrder("tcp", 80, first=8080), PortOrder("udp", 53, "127.0.0.1", 5300, 5310)),
    exposed=("80/tcp", "443/tcp"),
)


def test_published_and_exposed_ports() -> None:
    """Those that are published, and beside them those that are exposed alone [CTR-96]."""
    ports = ports_of(CONFIG, [(NETWORK, ENDPOINT)])
    assert ports_text(ports) == "443/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    assert port_map(ports) == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"},
            {"HostIp": "::", "HostPort": "8080"},
        ],
        "443/tcp": None,
    }


def test_neighbours_are_one_range() -> None:
    ports = [ShownPort(n, "tcp", "0.0.0.0", n) for n in (8000, 8001, 8002, 8004)]
    ports += [ShownPort(n, "udp") for n in (5, 6)]
    assert ports_text(ports) == (
        "5-6/udp, 0.0.0.0:8000-8002->8000-8002/tcp, 0.0.0.0:8004->8004/tcp"
    )


def test_a_place_of_the_host() -> None:
    """An address of IP version 6 stands in brackets."""
    places = [one.place for one in ports_of(CONFIG, [(NETWORK, ENDPOINT)]) if one.address]
    assert places == ["0.0.0.0:8080", "[::]:8080"]


def test_ports_as_they_were_asked_for() -> None:
    """A range of the host's ports is kept as one [CTR-95]."""
    assert port_bindings(CONFIG) == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5300-5310"}],
    }


def test_settings_of_a_running_container() -> None:
    settings = network_settings(CONFIG, [(NETWORK, ENDPOINT)])
    place = settings["Networks"]["web"]
    assert (place["IPAddress"], place["IPPrefixLen"]) == ("172.20.0.2", 16)
    assert (place["GlobalIPv6Address"], place["GlobalIPv6PrefixLen"]) == ("fd00::2", 64)
    assert (place["Gateway"], place["IPv6Gateway"]) == ("172.20.0.1", "")
    assert place["Aliases"] == ["alias"]
    assert place["DNSNames"] == ["one", "alias"]
    assert set(settings["Ports"]) == {"80/tcp", "443/tcp"}


def test_settings_of_one_that_does_not_run() -> None:
    """Its networks are named, it has no address there, and no map is null [CTR-71]."""
    settings = network_settings(CONFIG, [])
    assert settings["Ports"] == {}
    place = settings["Networks"]["web"]
    assert (place["IPAddress"], place["Aliases"]) == ("", ["db"])
    assert place["IPAMConfig"] == {"IPv4Address": "172.20.0.9"}
    assert network_settings(CONFIG._replace(networks=()), [])["Networks"] == {}
    assert list(network_settings(CONFIG._replace(network="none"), [])["Networks"]) == ["none"]
