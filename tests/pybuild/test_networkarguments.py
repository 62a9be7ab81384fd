"""Options about networks as the parts of a container's config."""

from __future__ import annotations

import pytest

from pybuild.arguments.networks import mode_of, networking, obstacle_to_own
from pybuild.commandline import find
from pybuild.commandline.parser import Parsed, parse
from pybuild.model.errors import UsageError
from pybuild.networks.order import EndpointOrder, PortOrder


def parsed(*words: str) -> Parsed:
    command = find("run")
    assert command is not None
    return parse([*words, "image"], command.options)


def test_networks_have_names_aliases_and_addresses() -> None:
    fields = networking(
        parsed("--network", "front", "--network-alias", "db", "--ip", "10.0.0.9"), {}
    )
    assert fields["network"] == "front"
    assert fields["networks"] == (EndpointOrder("front", ("db",), ("10.0.0.9",)),)
    long = "name=back,alias=a,alias=b,ip6=FD00:0::2,mac-address=02-42-AA-00-00-01,gw-priority=3"
    fields = networking(parsed("--network", "front", "--network", long), {})
    assert fields["networks"][1] == EndpointOrder(
        "back", ("a", "b"), ("fd00::2",), "02:42:aa:00:00:01", 3
    )


@pytest.mark.parametrize(
    ("text", "orders"),
    [
        ("8080:80", [PortOrder("tcp", 80, "", 8080, 8080)]),
        ("80", [PortOrder("tcp", 80)]),
        ("127.0.0.1::80", [PortOrder("tcp", 80, "127.0.0.1")]),
        ("[::1]:53:53/UDP", [PortOrder("udp", 53, "::1", 53, 53)]),
        ("8000-8002:80", [PortOrder("tcp", 80, "", 8000, 8002)]),
        ("90-91:80-81", [PortOrder("tcp", 80, "", 90, 90), PortOrder("tcp", 81, "", 91, 91)]),
        ("80-81", [PortOrder("tcp", 80), PortOrder("tcp", 81)]),
    ],
)
def test_ports_are_read_as_docker_reads_them(text: str, orders: list[PortOrder]) -> None:
    assert networking(parsed("--network", "front", "-p", text), {})["ports"] == tuple(orders)


def test_all_exposed_ports_are_published_but_those_that_are_already() -> None:
    image: dict[str, object] = {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}
    fields = networking(parsed("--network", "front", "-P", "-p", "8080:80"), image)
    assert fields["ports"] == (PortOrder("tcp", 80, "", 8080, 8080), PortOrder("udp", 53))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network", "host", "--ip", "10.0.0.2"], "--ip needs a network of the container's own"),
        (["--network", "none", "-p", "80"], "nothing can be published with --network none"),
        (["--network", "host", "--network", "front"], "--network host goes with no other network"),
        (["--network", "a", "--network", "name=a,alias=b"], '"a" is specified multiple times'),
        (["--network", f"name=a,gw-priority={'9' * 5000}"], "invalid field gw-priority"),
        (["--network", "front", "--ip", "fd00::1"], "an address of the other version of IP"),
        (["--network", "front", "--ip", "x"], "--ip: invalid IP address: x"),
        (["--network", "front", "--mac-address", "x"], "x is not a valid mac address"),
        (["--network", "alias=a"], "no name"),
        (["--network", "name=a,colour=red"], "invalid field colour=red"),
        (["--dns", "x"], "--dns: x is not an ip address"),
        (["--network", "front", "-p", "web"], "-p web: invalid containerPort: web"),
    ],
)
def test_what_contradicts_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        networking(parsed(*words), {})


@pytest.mark.parametrize(
    ("default", "warning"), [(("bridge", ""), ""), (("host", "no tun"), "no tun")]
)
def test_without_a_word_it_is_the_default_bridge_or_the_hosts_network_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, default: tuple[str, str], warning: str
) -> None:
    monkeypatch.setattr("pybuild.arguments.networks.default_network", lambda: default)
    assert (mode_of(parsed()), obstacle_to_own(parsed())) == (default[0], warning)
    assert mode_of(parsed("--network", "default")) == "bridge"
    assert mode_of(parsed("--network", "container:web")) == "container:web"
    assert obstacle_to_own(parsed("--network", "host")) == ""
