"""Links between containers: lines of the hosts file on the default bridge, names for one alone elsewhere [NET-15]."""

from __future__ import annotations

import json

import pytest

from tests.e2e.networked import NetworkedPybuild, devices, named, run
from tests.e2e.test_containers import wait_until

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]

SLEEP = "exec busybox sleep 1000"


@pytest.fixture
def machine(networked: NetworkedPybuild) -> NetworkedPybuild:
    return networked


def hosts(machine: NetworkedPybuild, name: str) -> list[str]:
    return machine("exec", name, "busybox", "cat", "/etc/hosts").out.splitlines()[6:]


def address(machine: NetworkedPybuild, name: str) -> str:
    networks = json.loads(machine("inspect", name).out)[0]["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["IPAddress"])


def test_on_the_default_bridge_a_link_is_a_line_that_follows(machine: NetworkedPybuild) -> None:
    child = run(machine, "db", SLEEP, "--network", "bridge")[:12]
    run(machine, "app", SLEEP, "--network", "bridge", "--link", "db:data", "--link", "db")
    first = address(machine, "db")
    assert hosts(machine, "app")[1:] == [f"{first}\tdata {child} db", f"{first}\tdb {child}"]
    assert len(hosts(machine, "db")) == 1
    assert machine("exec", "app", "busybox", "env").out.count("DATA") == 0  # as docker since 29
    shown = json.loads(machine("inspect", "app").out)[0]["HostConfig"]["Links"]
    assert shown == ["/db:/app/data", "/db:/app/db"]
    machine("stop", "-t", "0", "db")
    run(machine, "other", SLEEP, "--network", "bridge")
    machine("start", "db")
    second = address(machine, "db")
    both = [f"{second}\tdata {child} db", f"{second}\tdb {child}"]
    wait_until(lambda: hosts(machine, "app")[1:] == both)  # and nothing of its address before
    machine("rename", "db", "base")
    wait_until(lambda: hosts(machine, "app")[-1] == f"{second}\tdb {child} base")
    assert machine("rm", "--link", "/app/data").out == "/app/data\n"
    assert hosts(machine, "app")[1:] == [f"{second}\tdb {child} base"]
    shown = json.loads(machine("inspect", "app").out)[0]["HostConfig"]["Links"]
    assert shown == ["/base:/app/db"]
    assert "no such link: /app/data" in machine("rm", "--link", "app/data", code=1).err
    assert "default link name" in machine("rm", "--link", "app", code=1).err
    machine("restart", "-t", "0", "app")
    wait_until(lambda: hosts(machine, "app")[1:] == [f"{second}\tdb {child} base"])
    machine("rm", "-f", "base", "app", "other")
    wait_until(lambda: not list((machine.store / "networks" / "links").iterdir()))
    wait_until(lambda: devices(machine, "veth") == [])


def test_who_is_linked_to_on_the_default_bridge_is_there_and_runs(
    machine: NetworkedPybuild,
) -> None:
    words = ("--network", "bridge", "--name", "app", "base", "true")
    done = machine("create", "--link", "nobody:x", *words, code=1)
    assert "could not get container for nobody: no such container: nobody" in done.err
    machine("create", "--network", "none", "--name", "apart", "base", "true")
    done = machine("create", "--link", "apart", *words, code=1)
    assert "Cannot link to /apart, as it does not belong to the default network" in done.err
    machine("create", "--network", "bridge", "--name", "db", "base", "true")
    machine("create", "--link", "db:data", *words)
    done = machine("start", "app", code=1)
    assert "Cannot link to a non running container: /db AS /app/data" in done.err
    for wrong in ("a:b:c", ":x", "a:"):
        assert "bad format for links" in machine("create", "--link", wrong, *words, code=2).err


def test_on_another_network_a_link_is_a_name_for_one_alone(machine: NetworkedPybuild) -> None:
    machine("network", "create", "--subnet", "10.77.0.0/24", "front")
    run(machine, "db", SLEEP, "--network", "front", "--ip", "10.77.0.9")
    on = ("--network", "front")
    assert named(machine, "data", *on, "--link", "db:data") == ["10.77.0.9"]
    assert named(machine, "data.front", *on, "--link", "db:data") == ["10.77.0.9"]
    assert named(machine, "data", *on) == []
    assert named(machine, "data", *on, "--link", "later:data") == []
    run(machine, "app", SLEEP, "--network", "bridge")
    machine("network", "connect", "--link", "db:data", "front", "app")
    assert "10.77.0.9" in machine("exec", "app", "busybox", "nslookup", "data").out
    place = json.loads(machine("inspect", "app").out)[0]["NetworkSettings"]["Networks"]["front"]
    assert place["Links"] == ["db:data"]
    machine("network", "disconnect", "bridge", "app")
    done = machine("network", "connect", "--link", "db:data", "bridge", "app", code=1)
    assert "links are only supported for user-defined networks" in done.err
