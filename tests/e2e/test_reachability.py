"""Reachability on networks: one table, as root and as a plain user [NET-22, NET-32]."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.networked import (
    SERVE,
    NetworkedPybuild,
    asked,
    get,
    named,
    network_namespace,
    run,
    tries,
    up,
)
from tests.e2e.rootlessnetworks import rootless_machine

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]

WEB, SELF, INNER, OUTSIDE, NOBODY = "web", "self", "inner", "outside", ""
HERE, THERE = "192.0.2.1", "192.0.2.2"  # this machine, and another host
# Who asks, whom, and who answers; a container asks as one of that network.
TABLE = (
    ("host", HERE, 8080, WEB),
    ("host", "127.0.0.1", 8080, WEB),
    ("host", "::1", 8080, WEB),
    ("host", "127.0.0.1", 8081, WEB),
    ("host", HERE, 8081, NOBODY),
    ("other host", HERE, 8080, WEB),
    ("other host", HERE, 8081, NOBODY),  # published at 127.0.0.1
    ("other host", "10.77.0.2", 80, NOBODY),
    ("other host", "10.79.0.2", 80, NOBODY),
    ("front", "10.77.0.2", 80, WEB),
    ("front", "10.77.0.1", 8080, WEB),
    ("front", HERE, 8080, WEB),
    ("front", "10.79.0.2", 80, NOBODY),
    ("front", THERE, 80, OUTSIDE),
    ("back", "10.77.0.2", 80, NOBODY),
    ("back", "10.78.0.1", 8080, WEB),
    ("back", HERE, 8080, WEB),
    ("back", "127.0.0.1", 8080, NOBODY),
    ("back", "10.79.0.2", 80, NOBODY),
    ("back", THERE, 80, OUTSIDE),
    ("inner", "10.79.0.2", 80, INNER),
    ("inner", "10.77.0.2", 80, NOBODY),
    ("inner", "10.78.0.1", 8080, NOBODY),
    ("inner", HERE, 8080, NOBODY),
    ("inner", THERE, 80, NOBODY),
)
# The containers' own addresses lead this machine to them where root has made the bridges here.
AS_ROOT = (("host", "10.77.0.2", 80, WEB), ("host", "10.79.0.2", 80, INNER))
AS_USER = (("host", "10.77.0.2", 80, NOBODY), ("host", "10.79.0.2", 80, NOBODY))


@dataclass(frozen=True)
class Wired:
    """A machine, another host on a wire with it, and what the table says of them."""

    machine: NetworkedPybuild
    neighbour: NetworkedPybuild
    table: tuple[tuple[str, str, int, str], ...]


@contextmanager
def wired(machine: NetworkedPybuild) -> Generator[NetworkedPybuild]:
    """Yield the other host, which sends everything to this machine."""
    with network_namespace() as pid:
        machine.sh(
            f"ip link add wire type veth peer name eth0 netns {pid} && "
            f"ip addr add {HERE}/24 dev wire && ip link set wire up && "
            f"ip route add default via {THERE}"
        )
        other = NetworkedPybuild(machine.store, machine.config, pid)
        served = other.sh(
            f"ip addr add {THERE}/24 dev eth0 && ip link set eth0 up && "
            f"ip route add 10.0.0.0/8 via {HERE}; "
            "busybox nc -ll -p 80 -e echo outside >/dev/null 2>&1 & echo $!"
        )
        try:
            yield other
        finally:
            os.kill(int(served.out), signal.SIGKILL)


@pytest.fixture
def as_root(networked: NetworkedPybuild) -> Generator[Wired]:
    with wired(networked) as other:
        yield Wired(networked, other, TABLE + AS_ROOT)


@pytest.fixture
def as_user() -> Generator[Wired]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with rootless_machine() as machine, wired(machine) as other:
        yield Wired(machine, other, TABLE + AS_USER)


@pytest.mark.parametrize("rung", ["as_root", "as_user"])
def test_who_reaches_whom(rung: str, request: pytest.FixtureRequest) -> None:
    made: Wired = request.getfixturevalue(rung)
    machine, other = made.machine, made.neighbour
    machine("network", "create", "--subnet", "10.77.0.0/24", "front")
    machine("network", "create", "--subnet", "10.78.0.0/24", "back")
    machine("network", "create", "--subnet", "10.79.0.0/24", "--internal", "inner")
    published = ("-p", "8080:80", "-p", "127.0.0.1:8081:80")
    web = run(machine, "web", SERVE, "--network", "front", *published)[:12]
    inner = run(machine, "inner", SERVE, "--network", "inner")[:12]
    own = "busybox nc -w 2 10.77.0.1 8082 </dev/null"
    itself = f'busybox nc -ll -p 80 -e echo self & until test "$({own})" = self; do sleep 0.1; done'
    run(machine, "self", itself, "--network", "front", "-p", "8082:80")
    answers = {web: WEB, inner: INNER, OUTSIDE: OUTSIDE, NOBODY: NOBODY}
    up(machine, "127.0.0.1", 8080)
    up(machine, THERE)
    seen: list[tuple[str, str, int, str]] = []
    for asking in dict.fromkeys(row[0] for row in made.table):
        rows = [row for row in made.table if row[0] == asking]
        script = tries(*(row[1:3] for row in rows))
        if asking in ("host", "other host"):
            lines = (machine if asking == "host" else other).sh(script).out.splitlines()
        else:
            lines = asked(machine, script, "--network", asking)
        seen += [(*row[:3], answers[line]) for row, line in zip(rows, lines, strict=True)]
    assert sorted(seen) == sorted(made.table)
    assert machine("wait", "self").out == "0\n"  # it has heard itself, by what it publishes
    assert named(machine, "web", "--network", "front") == ["10.77.0.2"]
    assert named(machine, "web", "--network", "back") == []
    other.sh(
        "ip link set lo down; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; "
        f"ip route add 127.0.0.1/32 via {HERE}"
    )
    assert get(other, "127.0.0.1", 8081) == ""  # nor with a forged address
