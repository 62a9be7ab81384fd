"""A container's network namespace brought to its networks and taken off them, in real ones [NET-7, NET-23, NET-25, NET-30].

This process is on a machine of its own, as all tests are; a child of it, in another network namespace, is the container.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.disk.locks import locked
from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import Fault
from pybuild.networks import attaching, kernelstate, wayout
from pybuild.networks.attaching import Attachment, attach, connect, detach, disconnect, take_over
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.order import EndpointOrder, NetworkOrder, PortOrder
from pybuild.networks.rtnetlink import Inside, index_of
from pybuild.networks.tidying import tidy
from tests.needs import need

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

ID = "ab" * 32


@pytest.fixture(autouse=True)
def tools() -> None:
    need("ip")
    need("nft")


@contextmanager
def process_apart() -> Generator[int]:
    """Yield the number of a process in a network namespace of its own, which lives for the block."""
    reader, writer = os.pipe()
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.write(begins, b"x")
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        assert os.read(begun, 1)
        yield child
    finally:
        for fd in (writer, begun, begins):
            os.close(fd)
        os.waitpid(child, 0)


def order(networks: Networks, *endpoints: EndpointOrder, **fields: Any) -> NetworkOrder:
    made = NetworkOrder(networks.records.folder, ID, "one", "here", endpoints)
    return made._replace(**fields)


def told(*words: str, pid: int = 0) -> str:
    command = ["nsenter", "-t", str(pid), "-n", *words] if pid else list(words)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def given_back(made: Attachment) -> None:
    """Leave nothing of an attachment, nor of its networks."""
    made.close()
    attaching.remove_devices(detach(made.store.folder, made.order.container, made.pid))
    tidy(made.store.folder)


def gone(*attachments: Attachment) -> None:
    for one in attachments:
        one.close()


def test_one_is_brought_to_its_networks_and_leaves_nothing(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    net = networks.create(NewNetwork(name="net", subnets=("10.81.0.0/24", "fd81::/64"), ipv6=True))
    inner = networks.create(NewNetwork(name="inner", subnets=("10.82.0.0/24",), internal=True))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    with process_apart() as pid:
        wanted = order(
            networks,
            EndpointOrder("inner"),
            EndpointOrder("net", ("web",), ("10.81.0.7",), "02:42:00:00:00:07"),
            ports=(PortOrder("tcp", 80, "127.0.0.1", number, number),),
        )
        made = attach(wanted, pid)
        assert made.warnings == [] and made.answers_names()
        assert [network.name for network, _ in made.places] == ["net", "inner"]
        first, second = (endpoint for _, endpoint in made.places)
        assert first.addresses == ("10.81.0.7/24", "fd81::2/64") and first.device == "eth0"
        assert second.addresses == ("10.82.0.2/24",) and second.device == "eth1"
        assert first.names == ("one", "web", ID[:12], "here") and first.aliases == ("web",)
        assert [port.port for port in first.ports] == [number] and second.ports == ()
        shown = told("ip", "-o", "addr", pid=pid)
        assert "10.81.0.7/24" in shown and "fd81::2/64" in shown and "10.82.0.2/24" in shown
        assert "127.0.0.1/8" in shown
        assert "02:42:00:00:00:07" in told("ip", "link", "show", "eth0", pid=pid)
        routes = told("ip", "route", "show", "default", pid=pid)
        assert routes.split()[:5] == ["default", "via", "10.81.0.1", "dev", "eth0"]
        assert "via fd81::1" in told("ip", "-6", "route", "show", "default", pid=pid)
        links = told("ip", "-d", "link", "show", "master", net.bridge)
        assert first.peer in links and "hairpin on" in links
        assert "hairpin off" in told("ip", "-d", "link", "show", "master", inner.bridge)
        table = told("nft", "list", "ruleset")
        assert f"tcp . {number}" in table and "10.81.0.7 . 80" in table
        assert wayout.sysctl(f"ipv4/conf/{net.bridge}/route_localnet") == "1"
        assert wayout.sysctl("ipv4/ip_forward") == "1"
        with Inside(made.namespace):
            assert wayout.sysctl("ipv4/conf/eth0/arp_notify") == "1"
        with pytest.raises(OSError), socket.socket() as taken:
            taken.bind(("127.0.0.1", number))
        again = take_over(wanted, pid)
        assert [endpoint for _, endpoint in again.places] == [first, second]
        assert again.held == []  # as long as the helper before it has them
        gone(made, again)
        last = take_over(wanted, pid)
        assert [held.port for held in last.held] == list(first.ports)
        attaching.rename(last, "two")
        assert last.places[0][1].names == ("two", "web", ID[:12], "here")
        assert networks.records.endpoint(net, ID) == last.places[0][1]
        gone(last)
        detach(wanted.folder, "cd" * 32, pid)  # of another, nothing is here
        assert index_of(net.bridge) and networks.records.endpoints(net) != []
        devices = detach(wanted.folder, ID, pid)
        assert sorted(devices) == sorted((first.peer, second.peer))
        assert networks.records.endpoints(net) == [] and networks.records.leases(net) == {}
        assert index_of(first.peer) and index_of(net.bridge)  # who waits does not wait for them
        assert f"tcp . {number}" not in told("nft", "list", "ruleset")
        attaching.remove_devices(devices)
        assert not index_of(first.peer) and index_of(net.bridge)
        tidy(wanted.folder)
        assert not index_of(net.bridge) and not index_of(inner.bridge)
        assert networks.records.table not in told("nft", "list", "tables")
        assert "eth" not in told("ip", "-o", "link", pid=pid)


def test_the_gateway_and_the_ports_move_with_the_networks(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    for name, number in (("a", 83), ("b", 84)):
        networks.create(NewNetwork(name=name, subnets=(f"10.{number}.0.0/24",)))
    with process_apart() as pid:
        ports = (PortOrder("tcp", 80, "127.0.0.1"),)
        made = attach(order(networks, EndpointOrder("b"), ports=ports), pid)

        def gateway() -> str:
            return told("ip", "route", "show", "default", pid=pid).split()[2]

        def published() -> list[str]:
            return [network.name for network, endpoint in made.places if endpoint.ports]

        assert (gateway(), published()) == ("10.84.0.1", ["b"])
        (port,) = (held.port.port for held in made.held)
        connect(made, EndpointOrder("a", priority=-1))  # later than b, though its name is before
        assert (gateway(), published()) == ("10.84.0.1", ["b"])
        with pytest.raises(Fault, match="endpoint with name one already exists in network a"):
            connect(made, EndpointOrder("a"))
        a, b = (networks.find(name) for name in "ab")
        disconnect(made, b)
        assert (gateway(), published()) == ("10.83.0.1", ["a"])
        assert [held.port.port for held in made.held] == [port]
        assert f"tcp . {port} : 10.83.0.2 . 80" in told("nft", "list", "ruleset")
        with pytest.raises(Fault, match=f"container {ID} is not connected to network b"):
            disconnect(made, b)
        connect(made, EndpointOrder("b", priority=5))
        assert (gateway(), published()) == ("10.84.0.1", ["b"])
        disconnect(made, b)
        disconnect(made, a)
        assert (made.places, made.held, made.gateway()) == ([], [], None)
        assert made.published() is None
        connect(made, EndpointOrder("a"))
        assert (gateway(), published()) == ("10.83.0.1", ["a"])
        given_back(made)


def test_addresses_are_each_ones_own(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    net = networks.create(NewNetwork(name="net", subnets=("10.85.0.0/30",)))
    networks.create(NewNetwork(name="any"))
    with process_apart() as pid, process_apart() as other:
        made = attach(order(networks, EndpointOrder("net")), pid)
        assert made.places[0][1].addresses == ("10.85.0.2/30",)
        theirs = order(networks, EndpointOrder("net"), container="cd" * 32, name="two")
        with pytest.raises(Fault, match="network net has no free address"):
            attach(theirs, other)
        for address in ("10.85.0.2", "10.85.0.1"):
            wanted = EndpointOrder("net", addresses=(address,))
            with pytest.raises(Fault, match=f"address {address} is already in use on network net"):
                attach(theirs._replace(endpoints=(wanted,)), other)
        refused = {
            EndpointOrder(
                "net", addresses=("10.86.0.2",)
            ): "invalid address 10.86.0.2: no configured",
            EndpointOrder("any", addresses=("10.85.0.2",)): "networks with user configured subnets",
            EndpointOrder("bridge", addresses=("10.85.0.2",)): "on user defined networks only",
            EndpointOrder("host"): "a container cannot be connected to the host network",
            EndpointOrder("nowhere"): "network nowhere not found",
        }
        for wanted, message in refused.items():
            with pytest.raises(Fault, match=message):
                attach(theirs._replace(endpoints=(wanted,)), other)
        with pytest.raises(Fault, match='network "any" is specified multiple times'):
            attach(theirs._replace(endpoints=(EndpointOrder("any"),) * 2), other)
        assert [one.container for one in networks.records.endpoints(net)] == [ID]
        gone(made)
    # It has ended without a word: who comes next has its address.
    with process_apart() as other:
        made = attach(theirs, other)
        assert made.places[0][1].addresses == ("10.85.0.2/30",)
        assert [one.name for one in networks.records.endpoints(net)] == ["two"]
        given_back(made)


def test_who_ended_without_a_word_is_swept_away(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    net = networks.create(NewNetwork(name="net", subnets=("10.87.0.0/24",)))
    with process_apart() as pid:
        ports = (PortOrder("udp", 53, "127.0.0.1"),)
        made = attach(order(networks, EndpointOrder("net"), ports=ports), pid)
        with locked(networks.records.lock):
            assert kernelstate.sweep(networks.records) == 0
        assert index_of(net.bridge)
        gone(made)
    with locked(networks.records.lock):
        assert kernelstate.sweep(networks.records, kept=net) == 1
        assert index_of(net.bridge) and networks.records.leases(net) == {}
        assert kernelstate.sweep(networks.records) == 0
    assert not index_of(net.bridge)


def test_a_network_moves_out_of_the_way_unless_somebody_chose_its_place(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    moving = networks.create(NewNetwork(name="moving"))
    staying = networks.create(NewNetwork(name="staying", subnets=("10.88.0.0/24",)))
    told("ip", "link", "add", "other", "type", "bridge")
    try:
        told("ip", "addr", "add", moving.subnets[0].gateway + "/24", "dev", "other")
        told("ip", "addr", "add", "10.88.0.9/24", "dev", "other")
        with process_apart() as pid:
            made = attach(order(networks, EndpointOrder("moving"), EndpointOrder("staying")), pid)
            now = networks.find("moving").subnets[0]
            assert now.prefix != moving.subnets[0].prefix
            assert made.places[0][1].addresses[0].startswith(now.gateway.rpartition(".")[0])
            assert networks.find("staying").subnets == staying.subnets
            given_back(made)
    finally:
        told("ip", "link", "delete", "other")


DOCKERS = """
table ip filter {
    chain DOCKER-USER {
        counter return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump DOCKER-USER
    }
}
"""


def test_packets_pass_where_docker_has_all_others_dropped(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    net = networks.create(NewNetwork(name="net", subnets=("10.89.0.0/24",)))
    subprocess.run(["nft", "-f", "-"], input=DOCKERS, text=True, check=True, timeout=60)
    try:
        with process_apart() as pid:
            made = attach(order(networks, EndpointOrder("net")), pid)
            assert made.warnings == []
            chain = told("nft", "list", "chain", "ip", "filter", "DOCKER-USER")
            for way in ("iifname", "oifname"):
                assert f'{way} "{net.bridge}" accept' in chain
            given_back(made)
            chain = told("nft", "list", "chain", "ip", "filter", "DOCKER-USER")
            assert net.bridge not in chain and "return" in chain
            told("nft", "delete", "rule", "ip", "filter", "FORWARD", "handle", _jump())
            told("nft", "delete", "chain", "ip", "filter", "DOCKER-USER")
            made = attach(order(networks, EndpointOrder("net")), pid)
            (warning,) = made.warnings
            assert warning.startswith("the packet filter's chain ip filter FORWARD drops")
            given_back(made)
    finally:
        told("nft", "delete", "table", "ip", "filter")


def _jump() -> str:
    """Return the number of the rule that leads to docker's chain for others."""
    lines = told("nft", "-a", "list", "chain", "ip", "filter", "FORWARD").splitlines()
    return next(line.rpartition(" ")[2] for line in lines if "jump DOCKER-USER" in line)


def test_a_bridge_that_somebody_has_removed_comes_back_under_all(tmp_path: Path) -> None:
    networks = Networks(str(tmp_path))
    net = networks.create(NewNetwork(name="net", subnets=("10.90.0.0/24",)))
    with process_apart() as pid, process_apart() as other:
        made = attach(order(networks, EndpointOrder("net")), pid)
        told("ip", "link", "del", net.bridge)
        second = order(networks, EndpointOrder("net"), container="cd" * 32, name="two")
        beside = attach(second, other)
        links = told("ip", "link", "show", "master", net.bridge)
        for one in (made, beside):
            assert one.places[0][1].peer in links
        assert not networks.forget_place(net, "ef" * 32)
        assert networks.forget_place(net, ID)
        assert not networks.forget_place(net, ID)
        assert index_of(made.places[0][1].peer) == 0
        assert [one.container for one in networks.records.endpoints(net)] == ["cd" * 32]
        gone(made)
        given_back(beside)
