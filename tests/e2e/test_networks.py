"""Containers on networks of their own, as root, on a machine of their own [NET]."""

from __future__ import annotations

import os
from collections.abc import Generator
from itertools import count

import pytest

from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild, leftovers
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]


@pytest.fixture
def machine(pybuild: Pybuild, base: str) -> Generator[NetworkedPybuild]:
    """A store with the image *base* on a machine that has nothing but a loopback device."""
    assert base
    need("nsenter")
    need("ip")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with network_namespace() as pid:
        made = NetworkedPybuild(pybuild.store, pybuild.config, pid)
        yield made
        ids = made("ps", "-aq", code=None).out.split()
        if ids:
            made("rm", "-f", *ids)
        wait_until(lambda: not leftovers(pybuild.store))
        assert devices(made, "veth") == []


def devices(machine: NetworkedPybuild, start: str) -> list[str]:
    lines = machine.sh("ip -o link").out.splitlines()
    names = [line.split(": ")[1].partition("@")[0] for line in lines]
    return [name for name in names if name.startswith(start)]


SERVE = "exec busybox nc -ll -p 80 -e echo $HOSTNAME"


def run(machine: NetworkedPybuild, name: str, script: str, *options: str) -> str:
    return machine("run", "-d", "--name", name, *options, "base", "sh", "-c", script).out.strip()


def get(machine: NetworkedPybuild, address: str, port: int = 8080) -> str:
    """Return what this machine is answered, "" where nobody answers."""
    script = f"busybox nc -w 2 {address} {port} </dev/null"
    return machine.sh(script, code=None).out.strip()


def up(machine: NetworkedPybuild, address: str, port: int = 80) -> None:
    wait_until(lambda: get(machine, address, port) != "")


def asked(machine: NetworkedPybuild, script: str, *options: str) -> list[str]:
    """Return what a container's script prints."""
    name = f"asks{next(_NUMBERS)}"
    run(machine, name, script, *options)
    machine("wait", name)
    return machine("logs", name).out.splitlines()


_NUMBERS = count()


def named(machine: NetworkedPybuild, name: str, *options: str) -> list[str]:
    """Return the addresses that a container gets for a name."""
    lines = asked(machine, f"busybox nslookup {name}", *options)
    found = [line.split(": ")[1] for line in lines if line.startswith("Address: ")]
    return sorted(address for address in found if address != "127.0.0.11")


def table(machine: NetworkedPybuild) -> str:
    return machine.sh("nft list ruleset").out


def test_two_find_each_other_are_reached_by_a_port_and_leave_nothing(
    machine: NetworkedPybuild,
) -> None:
    machine("network", "create", "--subnet", "10.77.0.0/24", "front")
    web = run(machine, "web", SERVE, "--network", "front", "-p", "8080:80")[:12]
    up(machine, "10.77.0.2")
    assert get(machine, "127.0.0.1") == web
    assert get(machine, "10.77.0.1") == web
    assert get(machine, "::1") == web
    assert named(machine, "web", "--network", "front") == ["10.77.0.2"]
    assert named(machine, "WEB.front", "--network", "front") == ["10.77.0.2"]
    lines = asked(
        machine,
        "cat /etc/resolv.conf; cat /etc/hosts; busybox nslookup nobody",
        "--network",
        "front",
        "--hostname",
        "me.here",
    )
    assert lines[:2] == ["nameserver 127.0.0.11", "options ndots:0"]
    assert "10.77.0.5\tme.here me" in lines
    assert any("SERVFAIL" in line for line in lines)
    assert "has active endpoints: web" in machine("network", "rm", "front", code=1).err
    machine("rm", "-f", "web")
    assert get(machine, "10.77.0.1") == ""
    machine("network", "rm", "front")
    assert devices(machine, "br-") == []
    assert "10.77.0" not in table(machine)
