"""The networks of a store as commands see them, on its files alone [NET-1, NET-2, NET-3]."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from pybuild.cache.disk.locks import boot_id
from pybuild.executor.zygote.faults import Fault
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.networks import pools
from pybuild.networks.attaching import attach
from pybuild.networks.networks import Networks, NewNetwork, inspection
from pybuild.networks.order import EndpointOrder, NetworkOrder, PortOrder
from pybuild.networks.records import Network, NetworkEndpoint, start_time

BIND = "com.docker.network.bridge.host_binding_ipv4"


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    return Networks(str(tmp_path))


def put(networks: Networks, network: Network, name: str, address: str, pid: int) -> NetworkEndpoint:
    """Write a container down as its monitor would."""
    endpoint = NetworkEndpoint(
        container=name * 8,
        name=name,
        pid=pid,
        started=start_time(pid),
        boot=boot_id() or "",
        addresses=(address,),
        names=(name,),
    )
    networks.records.keep(network, endpoint)
    return endpoint


def test_each_store_has_three_that_stay(networks: Networks) -> None:
    assert [(one.name, one.driver) for one in networks.all()] == [
        ("bridge", "bridge"),
        ("host", "host"),
        ("none", "null"),
    ]
    assert [one.id for one in networks.all()] == [one.id for one in networks.all()]
    for name in ("bridge", "host", "none"):
        with pytest.raises(UserError, match="pre-defined network and cannot be removed"):
            networks.remove(name)
        with pytest.raises(UserError, match=f"predefined {name} network"):
            networks.create(NewNetwork(name=name))


def test_one_is_made_found_by_name_id_and_start_of_an_id_and_removed(networks: Networks) -> None:
    made = networks.create(NewNetwork(name="front", labels={"a": "b"}))
    assert networks.find("front") == networks.find(made.id) == networks.find(made.id[:9]) == made
    assert made.bridge == f"br-{made.id[:12]}"
    with pytest.raises(UserError, match="network with name front already exists"):
        networks.create(NewNetwork(name="front"))
    networks.remove("front")
    with pytest.raises(UserError, match="network front not found"):
        networks.find("front")
    assert not os.path.exists(os.path.join(networks.records.folder, made.id))


def test_subnets_do_not_overlap(networks: Networks) -> None:
    one = networks.create(NewNetwork(name="one", subnets=["10.200.0.0/24"]))
    assert one.subnets[0].gateway == "10.200.0.1"
    with pytest.raises(UserError, match="Pool overlaps with other one on this address space"):
        networks.create(NewNetwork(name="two", subnets=["10.200.0.128/25"]))
    others = [networks.create(NewNetwork(name=f"n{n}")).subnets[0].prefix for n in range(3)]
    assert len({*others}) == 3


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (NewNetwork(name="a/b"), r"invalid network name \(a/b\)"),
        (NewNetwork(name="a", driver="overlay"), "driver overlay cannot be had"),
        (NewNetwork(name="a", driver="x"), "invalid network driver: x"),
        (NewNetwork(name="a", subnets=["10.0.0.0"]), "invalid CIDR address: 10.0.0.0"),
        (NewNetwork(name="a", gateways=["10.0.0.1"]), "must have a corresponding subnet"),
        (
            NewNetwork(name="a", subnets=["10.0.0.0/24"], gateways=["10.1.0.1"]),
            "no matching subnet for 10.1.0.1",
        ),
        (
            NewNetwork(name="a", options={"com.docker.network.bridge.name": "x" * 16}),
            "at most 15 letters",
        ),
        (
            NewNetwork(name="a", options={"com.docker.network.driver.mtu": "big"}),
            'invalid value "big"',
        ),
        (
            NewNetwork(name="a", options={"com.docker.network.driver.mtu": "9" * 5000}),
            "invalid value",
        ),
        (
            NewNetwork(name="a", options={BIND: "localhost"}),
            "invalid IP address: localhost",
        ),
        (NewNetwork(name="a", options={BIND: "::1"}), "::1 is not an address of IP version 4"),
        (NewNetwork(name="a", subnets=["10.0.0.0/" + "9" * 5000]), "invalid CIDR address"),
        (
            NewNetwork(name="a", subnets=["10.0.0.0/24", "10.1.0.0/24"]),
            "several subnets of one version of IP",
        ),
        (
            NewNetwork(name="a", subnets=["10.0.0.0/24"], gateways=["10.0.0.1/24"]),
            "invalid IP address: 10.0.0.1/24",
        ),
        (
            NewNetwork(name="a", subnets=["10.0.1.0/24"], ranges=["10.0.1.0/16"]),
            "no matching subnet for range 10.0.0.0/16",
        ),
        (
            NewNetwork(
                name="a", subnets=["10.0.0.0/24", "fd12::/64"], gateways=["10.0.0.1", "10.0.0.2"]
            ),
            r"multiple gateways on the same subnet \(10.0.0.0/24\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(networks: Networks, order: NewNetwork, message: str) -> None:
    with pytest.raises(UserError, match=message):
        networks.create(order)
    assert len(networks.all()) == 3


def test_a_network_somebody_is_on_stays(networks: Networks) -> None:
    made = networks.create(NewNetwork(name="front"))
    put(networks, made, "web", "172.30.0.2/16", os.getpid())
    with pytest.raises(UserError, match="network front has active endpoints: web"):
        networks.remove("front")
    assert networks.prune(lambda one: False) == []
    assert networks.records.all_places() == {"web" * 8: networks.records.places("web" * 8)} != {}
    (shown,) = inspection(made, networks.records.living(made))["Containers"].values()
    assert (shown["Name"], shown["IPv4Address"]) == ("web", "172.30.0.2/16")


def test_who_ended_without_a_word_is_forgotten_at_the_next_look(networks: Networks) -> None:
    """A killed monitor leaves its record; the container's process tells whether it counts [NET-25]."""
    made = networks.create(NewNetwork(name="front"))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    put(networks, made, "web", "172.30.0.2/16", child)
    os.waitpid(child, 0)
    assert networks.records.living(made) == []
    networks.remove("front")


def test_an_address_is_leased_once(networks: Networks) -> None:
    made = networks.create(NewNetwork(name="front"))
    put(networks, made, "one", "172.30.0.2/16", os.getpid())
    with pytest.raises(FileExistsError):
        put(networks, made, "two", "172.30.0.2/16", os.getpid())
    assert networks.records.leases(made) == {"172.30.0.2": "one" * 8}
    assert [one.name for one in networks.records.living(made)] == ["one"]


def test_version_6_is_there_when_it_is_wanted(networks: Networks) -> None:
    made = networks.create(NewNetwork(name="front", ipv6=True))
    assert made.ipv6
    assert [":" in one.prefix for one in made.subnets] == [False, True]
    given = networks.create(
        NewNetwork(name="back", subnets=["10.9.0.0/24", "fd12::/64"], gateways=["fd12::9"])
    )
    assert [one.gateway for one in given.subnets] == ["10.9.0.1", "fd12::9"]


def test_an_address_is_one_however_it_is_spelled(networks: Networks) -> None:
    """Else a container could get that of the gateway."""
    order = NewNetwork(
        name="front", subnets=["fd12::/64"], gateways=["fd12:0::0001"], reserved=["FD12::2"]
    )
    subnet = networks.create(order).subnets[1]
    assert (subnet.gateway, subnet.reserved) == ("fd12::1", ("fd12::2",))
    assert pools.free_address(subnet, {}, "") == "fd12::3"


def test_two_networks_have_not_one_bridge(networks: Networks) -> None:
    options = {"com.docker.network.bridge.name": "br-pybuild-test"}
    networks.create(NewNetwork(name="front", options=options))
    with pytest.raises(UserError, match="br-pybuild-test is that of network front already"):
        networks.create(NewNetwork(name="back", options=options))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["front", "host"], "cannot be connected to the host network"),
        (["front", "none"], "cannot be connected to the none network"),
        (["front", "front"], 'network "front" is specified multiple times'),
    ],
)
def test_a_container_is_on_bridges_and_on_each_once(
    networks: Networks, names: list[str], message: str
) -> None:
    networks.create(NewNetwork(name="front"))
    endpoints = tuple(EndpointOrder(networks.find(name).id) for name in names)
    order = NetworkOrder(networks.records.folder, "c" * 64, "web", "web", endpoints)
    with pytest.raises(Fault, match=message):
        attach(order, os.getpid())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_a_run_before_had_is_given_back_first(networks: Networks) -> None:
    """Its helper may have been killed: what is published for it would lead to whoever gets its address."""
    made = networks.create(NewNetwork(name="front"))
    put(networks, made, "web", "172.30.0.2/16", os.getppid())
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        ports = (PortOrder("tcp", 80, "127.0.0.1", number, number),)
        order = NetworkOrder(
            networks.records.folder, "web" * 8, "web", "web", (EndpointOrder("front"),), ports
        )
        with pytest.raises(Fault, match="port is already allocated"):
            attach(order, os.getpid())
    assert networks.records.leases(made) == {}


def test_a_damaged_record_is_no_network(networks: Networks) -> None:
    made = networks.create(NewNetwork(name="front"))
    Path(networks.records.folder, made.id, "network.json").write_text("{")
    assert "front" not in [one.name for one in networks.all()]


def test_a_network_that_a_full_disk_takes_no_record_of_leaves_nothing(
    networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [one.id for one in networks.all()]

    def full(*words: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pybuild.networks.records.replace_file", full)
        with pytest.raises(EnvironmentFault, match="cannot make network front: no space left"):
            networks.create(NewNetwork(name="front"))
    assert sorted(one.name for one in (tmp_path / "networks").iterdir() if len(one.name) == 64) == (
        sorted(before)
    )
    assert networks.create(NewNetwork(name="front")).name == "front"
