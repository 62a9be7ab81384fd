"""A plain user's networks: what is killed, what is missing, and what is left [NET-32]."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.networked import SERVE, get, named, run, up
from tests.e2e.rootlessnetworks import RootlessPybuild, rootless_machine
from tests.e2e.test_container_life import spawners
from tests.e2e.test_containers import monitors, wait_until

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]

OWN = "192.0.2.1"
ASK = f"busybox nc -w 5 {OWN} 8080 </dev/null"


@pytest.fixture
def machine() -> Generator[RootlessPybuild]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with rootless_machine() as made:
        made.sh(f"ip addr add {OWN}/32 dev lo")
        yield made


def holder(machine: RootlessPybuild) -> int:
    """Return the process that holds the pod, 0: there is none."""
    with suppress(OSError):
        return int((machine.store / "networks/pod/holder").read_text().partition("/")[0] or 0)
    return 0


def connector(machine: RootlessPybuild) -> int:
    """Return the program that connects the pod, 0: there is none."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == holder(machine) and b"slirp" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    return 0


def test_what_is_killed_is_followed_by_another_and_nothing_is_left(
    machine: RootlessPybuild,
) -> None:
    machine("network", "create", "front")
    machine("network", "create", "back")
    web = run(machine, "web", SERVE, "--network", "front", "-p", "8080:80")[:12]
    run(machine, "client", "exec sleep 1000", "--network", "back")
    up(machine, "127.0.0.1", 8080)

    def outside() -> bool:
        return machine("exec", "client", "sh", "-c", ASK, code=None).out.strip() == web

    wait_until(outside)  # by the way out, to this machine's own address
    first = connector(machine)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: connector(machine) not in (0, first))
    wait_until(outside)
    # The holder: its namespace lives in those who are in it, and another takes it.
    before = holder(machine)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: holder(machine) not in (0, before))
    wait_until(outside)
    assert get(machine, "127.0.0.1") == web
    # All who could follow: the next command finds the user namespace by those who serve containers.
    for pid in sorted({holder(machine), *spawners(machine.store), *monitors(machine.store)}):
        os.kill(pid, signal.SIGKILL)
    assert named(machine, "web", "--network", "front") != []
    machine("network", "connect", "front", "client")
    machine("network", "disconnect", "back", "client")
    machine("network", "rm", "back")
    wait_until(outside)
    machine("rm", "-f", "web", "client")
    machine("network", "rm", "front")
    wait_until(lambda: holder(machine) == 0)
    assert connector(machine) == 0


def test_the_default_network_is_the_pods_bridge(machine: RootlessPybuild) -> None:
    done = machine("run", "--rm", "base", "busybox", "ip", "-o", "addr", "show", "eth0")
    assert (" 172.17.0.2/16 " in done.out, done.err) == (True, "")


def test_without_a_way_out_the_default_is_the_machines_network() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    hidden = "mount -t tmpfs none /dev/net;"
    with rootless_machine(tun=False, setup=hidden) as machine:
        done = machine("run", "--rm", "base", "busybox", "ip", "-o", "link")
        assert [line.split(": ")[1] for line in done.out.splitlines()] == ["lo"]
        assert done.err == (
            "warning: the container has this machine's network: slirp4netns could not connect them "
            "(it needs /dev/net/tun: chmod 666 /dev/net/tun, as root)\n"
        )
