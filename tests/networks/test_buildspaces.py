"""The network of builds, and the namespaces of steps at its bridge, on a machine of the test's own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.model.border import WorkerCall
from pybuild.networks import buildnetwork, buildspaces, resolver, wayout
from tests.executor.filetrees import in_child
from tests.needs import needs

pytestmark = [pytest.mark.root, pytest.mark.sandbox, needs("ip", "nft")]


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the note of the last build apart from this machine's."""
    monkeypatch.setattr(wayout, "SHARED", str(tmp_path))


MACHINE = """
ip link set lo up; ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
ip addr add 10.9.9.2/24 dev up0; ip route add default via 10.9.9.1
"""


def told(script: str, namespace: int = -1) -> str:
    """Return the output of a shell, in a namespace."""
    words = ["sh", "-ec", script]
    if namespace >= 0:
        words = ["nsenter", f"--net=/proc/self/fd/{namespace}", *words]
        os.set_inheritable(namespace, True)
    done = subprocess.run(
        words, check=True, timeout=60, capture_output=True, text=True, close_fds=False
    )
    return done.stdout


def test_steps_have_addresses_behind_one_bridge() -> None:
    def work() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        told(MACHINE)
        way = buildnetwork.prepare(WorkerCall(), "")
        bridge, gateway, subnet, mtu = way.words
        assert (bridge, way.gateway, mtu) == (buildnetwork.BRIDGE, gateway, "0")
        assert gateway.endswith(".1") and subnet.startswith(gateway.removesuffix("1"))
        assert f"inet {gateway}/{subnet.partition('/')[2]}" in told(f"ip addr show {bridge}")
        assert told("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
        assert told(f"cat /proc/sys/net/ipv6/conf/{bridge}/disable_ipv6") == "1\n"
        made = [buildspaces.make(*way.words) for _ in range(2)]
        taken: list[int] = []
        for namespace, sockets in made:
            shown = told("ip addr show eth0; ip route; ip addr show lo", namespace)
            (end,) = re.findall(rf"inet {re.escape(gateway[:-1])}(\d+)/", shown)
            number = int(end)
            taken.append(number)
            assert f"default via {gateway} dev eth0" in shown
            assert "inet 127.0.0.1/8" in shown and "inet6 fe80" not in shown
            assert os.read(sockets, 10) == b"sockets: u"
            wire = told(f"ip -d link show {buildspaces.WIRE}{number}")
            assert f"master {bridge}" in wire
            assert "isolated on" in wire and "hairpin off" in wire
        # The lowest that are free: whoever prepared the network may hold the first of all, .2.
        assert taken in ([2, 3], [3, 4])
        for namespace, sockets in made:
            os.close(sockets)
            os.close(namespace)
        small, sockets = buildspaces.make(bridge, gateway, subnet, "1300")
        assert "mtu 1300" in told("ip link show eth0", small)
        with pytest.raises(Fault) as caught:
            buildspaces.make("nobridge", gateway, gateway + "/31", "0")
        assert caught.value.kind == ENVIRONMENT
        assert str(caught.value) == "the network of builds has no free address"

    in_child(work)


def test_a_machine_without_ipv4_has_no_network_of_builds() -> None:
    def work() -> str:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        told("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
        told("ip addr add fd77::2/64 dev up0; ip route add default via fd77::1")
        with pytest.raises(Fault) as caught:
            buildnetwork.prepare(WorkerCall(), "")
        return str(caught.value)

    assert in_child(work) == "this machine reaches others by IPv6 alone"


def test_questions_for_names_come_by_both_ways() -> None:
    def work() -> None:
        import socket

        syscalls.unshare(syscalls.CLONE_NEWNET)
        told("ip link set lo up")
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        udp, tcp = resolver.open_sockets(namespace)
        assert udp.getsockname()[0] == tcp.getsockname()[0] == "127.0.0.11"
        assert 53 not in (udp.getsockname()[1], tcp.getsockname()[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"question", ("127.0.0.11", 53))
            udp.setblocking(True)
            assert udp.recvfrom(100)[0] == b"question"
        with socket.create_connection(("127.0.0.11", 53), 30):
            tcp.setblocking(True)
            assert tcp._accept()[0] > 0  # type: ignore[attr-defined]  # pyright: ignore

    in_child(work)
