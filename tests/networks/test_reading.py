"""Places on networks, published ports and name servers as people write them [NET-3, NET-10, NET-24, CTR-90]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pybuild.model.errors import UsageError
from pybuild.networks import reading
from pybuild.networks.listing import is_chosen, matcher, prune_matcher, row_of
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.order import EndpointOrder, PortOrder
from pybuild.networks.records import Network


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("default", EndpointOrder("bridge")),
        ("net", EndpointOrder("net")),
        ("name=net", EndpointOrder("net")),
        ("alias=a,name=net,alias=b", EndpointOrder("net", ("a", "b"))),
        ("name=net,ip=10.0.0.2,ip6=fd00:0::2", EndpointOrder("net", (), ("10.0.0.2", "fd00::2"))),
        ("name=net,mac-address=0A-00-00-00-00-01", EndpointOrder("net", mac="0a:00:00:00:00:01")),
        ("name=net,gw-priority=-5", EndpointOrder("net", priority=-5)),
    ],
)
def test_a_place_is_read(text: str, endpoint: EndpointOrder) -> None:
    assert reading.read_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alias=a", "--network alias=a: no name"),
        ("name=", "--network name=: no name"),
        ("name=net,colour=red", "invalid field colour=red"),
        ("name=net,gw-priority=x", "invalid field gw-priority=x"),
        ("name=net,gw-priority=1234567890", "invalid field gw-priority=1234567890"),
        ("name=net,ip=fd00::2", "--ip fd00::2: an address of the other version of IP"),
        ("name=net,ip6=10.0.0.2", "--ip6 10.0.0.2: an address of the other version of IP"),
        ("name=net,ip=x", "--ip: "),
        ("name=net,mac-address=0a:00:00:00:00", "0a:00:00:00:00 is not a valid mac address"),
        ("name=net,mac-address=0a:00:00:00:00:01:02", "is not a valid mac address"),
    ],
)
def test_a_place_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        reading.read_endpoint(text)


def test_the_first_network_gives_the_mode() -> None:
    assert reading.first_network(["default", "net"]) == "bridge"
    assert reading.first_network(["name=net,ip=10.0.0.2", "other"]) == "net"
    assert reading.first_network(["host"]) == "host"
    for others in (["host", "net"], ["net", "none"], ["net", "container:x"]):
        with pytest.raises(UsageError, match="goes with no other network"):
            reading.first_network(others)
    with pytest.raises(UsageError, match='network "bridge" is specified multiple times'):
        reading.first_network(["default", "bridge"])


def test_options_of_an_own_network_need_one() -> None:
    reading.refuse_own(["hostname"], "host")
    reading.refuse_own(["publish"], "host")  # which it does anyway
    for option in ("ip", "ip6", "mac-address", "network-alias"):
        with pytest.raises(UsageError, match=f"--{option} needs a network of .* and host is none"):
            reading.refuse_own([option], "host")
    for option in ("publish", "publish-all"):
        with pytest.raises(UsageError, match="nothing can be published with --network none"):
            reading.refuse_own([option], "none")


@pytest.mark.parametrize(
    ("texts", "exposed", "orders"),
    [
        (["80"], [], [PortOrder("tcp", 80)]),
        (["8080:80/udp"], [], [PortOrder("udp", 80, "", 8080, 8080)]),
        (["[::1]:8080:80"], [], [PortOrder("tcp", 80, "::1", 8080, 8080)]),
        (["8000-8009:80"], [], [PortOrder("tcp", 80, "", 8000, 8009)]),
        (["1.2.3.4:8000-8001:80-81"], [], [
            PortOrder("tcp", 80, "1.2.3.4", 8000, 8000), PortOrder("tcp", 81, "1.2.3.4", 8001, 8001)]),
        (["80-81"], [], [PortOrder("tcp", 80), PortOrder("tcp", 81)]),
        (["8080:80"], ["80/tcp", "80/udp", "81/tcp"], [
            PortOrder("tcp", 80, "", 8080, 8080), PortOrder("udp", 80), PortOrder("tcp", 81)]),
    ],
)  # fmt: skip
def test_published_ports_are_read(
    texts: Sequence[str], exposed: Sequence[str], orders: Sequence[PortOrder]
) -> None:
    ports = list(reading.read_published(texts))
    assert [*ports, *reading.others_of(exposed, ports)] == orders


def test_a_port_that_is_none_is_refused() -> None:
    for read in (
        lambda: list(reading.read_published(["x"])),
        lambda: reading.check_published(["x"]),
    ):
        with pytest.raises(UsageError, match="^-p x: "):
            read()


def test_the_hosts_network_publishes_what_it_does_anyway() -> None:
    same = ["80", "80:80", "0.0.0.0:80:80", "80-82:80-82", "8080-8081:8080", "[::]:80:80"]
    reading.check_published(same)
    for text, message in (
        ("8080:80", "-p 8080:80: ports cannot be mapped: .* listen on the host's own 80$"),
        ("90-91:80-81", "the host's own 80-81"),
        ("127.0.0.1:80:80", "ports cannot be bound to an address: .* where it listens on 80$"),
    ):
        with pytest.raises(UsageError, match=message):
            reading.check_published([text])


def test_name_servers_are_those_that_are_given() -> None:
    text = "# one\nnameserver 1.1.1.1\nsearch a b\nnameserver fe80::1%eth0\n"
    assert reading.read_servers([], text) == ("1.1.1.1", "fe80::1%eth0")
    assert reading.read_servers(["9.9.9.9", "fe80::2%eth0"], text) == ("9.9.9.9", "fe80::2%eth0")
    with pytest.raises(UsageError, match="--dns: one is not an ip address"):
        reading.read_servers(["one"], text)
    assert reading.words_of(text, ("search", "domain")) == ("a", "b")
    assert reading.resolv_conf_with(text, (), (), ()) == text
    made = reading.resolv_conf_with(text, ("9.9.9.9",), ("c",), ())
    assert reading.words_of(made, ("nameserver",)) == ("9.9.9.9",)
    assert reading.words_of(made, ("search",)) == ("c",)
    modes = ("host", "container:x", "bridge", "none")
    assert [reading.has_hosts_servers(mode) for mode in modes] == [True, True, False, False]


def test_networks_are_listed_and_chosen(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    made = networks.create(NewNetwork(name="net", labels={"a": "b"}, internal=True))
    row = row_of(made, whole=False)
    assert (row["ID"], row["Name"], row["Driver"]) == (made.id[:12], "net", "bridge")
    assert (row["Internal"], row["IPv6"], row["Labels"]) == ("true", "false", "a=b")
    assert row_of(made, whole=True)["ID"] == made.id

    def chosen(read: Callable[[str], tuple[str, Callable[[Network], bool]]], *texts: str) -> bool:
        return is_chosen(made, [read(text) for text in texts])

    def listed(*texts: str) -> bool:
        return chosen(lambda text: matcher(networks, text), *texts)

    fitting = ("name=et", f"id={made.id[:5]}", "driver=bridge", "scope=local", "type=custom")
    for text in (*fitting, "dangling=true", "label=a", "label=a=b"):
        assert listed(text), text
    other = ("name=x", "id=x", "driver=host", "scope=swarm", "type=builtin")
    for text in (*other, "dangling=false", "label=c", "label=a=c"):
        assert not listed(text), text
    assert listed() and listed("name=x", "name=n") and not listed("name=n", "driver=host")
    assert not listed("label=a", "label=c")
    for text in ("type=x", "dangling=x", "colour=red"):
        with pytest.raises(UsageError, match=f'invalid filter "{text}"'):
            listed(text)
    assert chosen(prune_matcher, "label=a") and not chosen(prune_matcher, "label!=a")
    assert chosen(prune_matcher, "until=0s") and not chosen(prune_matcher, "until=1h")
    with pytest.raises(UsageError, match='invalid filter "name=x"'):
        prune_matcher("name=x")


def test_a_resolv_conf_keeps_what_was_not_given() -> None:
    host = "# ours\nnameserver 192.0.2.1\nsearch a.example\noptions ndots:2\n"
    assert reading.resolv_conf_with(host, (), (), ()) == host
    for given, words in (
        ((("192.0.2.7",), (), ()), ("192.0.2.7", "a.example", "ndots:2")),
        (((), ("b.example",), ()), ("192.0.2.1", "b.example", "ndots:2")),
        (((), (), ("ndots:3",)), ("192.0.2.1", "a.example", "ndots:3")),
    ):
        made = reading.resolv_conf_with(host, *given)
        names = {line.split()[0]: line.split()[1] for line in made.splitlines() if line[0] != "#"}
        assert names == dict(zip(("nameserver", "search", "options"), words, strict=True))


@pytest.mark.parametrize(
    ("option", "mode", "message"),
    [
        ("link", "none", "--link needs a network of the container's own, and none is none"),
        ("hostname", "container:x", "--hostname and --network container:x"),
        ("dns", "container:x", "--dns and --network container:x"),
        ("add-host", "container:x", "--add-host and --network container:x"),
        ("publish", "none", "nothing can be published with --network none"),
        ("publish-all", "container:x", "nothing can be published with --network container:x"),
    ],
)
def test_options_that_a_mode_cannot_have_are_refused(option: str, mode: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        reading.refuse_own([option], mode)
    assert caught.value.message == f"conflicting options: {message}"
    for fitting in ("dns", "add-host"):
        reading.refuse_own([fitting], "none")
