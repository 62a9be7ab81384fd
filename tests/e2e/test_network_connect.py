"""Containers connected to networks and disconnected, while they run and while they do not [NET-30]."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.networked import SERVE, NetworkedPybuild, get, run, up
from tests.e2e.test_containers import wait_until

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]


def networks_of(machine: NetworkedPybuild, name: str) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(machine("inspect", name).out)[0]["NetworkSettings"]
    return dict(known["Networks"])


def look(name: str) -> str:
    """Return a script that prints the addresses of a name."""
    return f"busybox nslookup {name} | busybox sed -n '3,$s/^Address: //p'"


def said(machine: NetworkedPybuild, script: str) -> list[str]:
    """Return the lines that a script prints in the container "client"."""
    return machine("exec", "client", "sh", "-c", script, code=None).out.split()


def test_one_that_runs_is_brought_to_another_network(networked: NetworkedPybuild) -> None:
    """Names are found at once, files tell them, and ports and the default route go where they belong."""
    machine = networked
    machine("network", "create", "--subnet", "10.77.0.0/24", "front")
    machine("network", "create", "--subnet", "10.78.0.0/24", "back")
    web = run(machine, "web", SERVE, "--network", "front", "-p", "8080:80")[:12]
    run(machine, "client", "exec sleep 1000", "--network", "back")
    up(machine, "10.77.0.2")
    assert said(machine, look("web")) == []
    machine("network", "connect", "--alias", "db", "--ip", "10.78.0.9", "back", "web")
    script = "; ".join(map(look, ("web", "db", "db.back", web)))
    assert said(machine, script) == ["10.78.0.9"] * 4
    assert said(machine, "busybox nc -w 10 db 80 </dev/null") == [web]
    assert get(machine, "127.0.0.1") == get(machine, "::1") == web
    shown = networks_of(machine, "web")
    assert list(shown) == ["front", "back"]
    assert shown["back"]["IPAddress"] == "10.78.0.9"
    assert shown["back"]["IPAMConfig"] == {"IPv4Address": "10.78.0.9"}
    hosts = machine("exec", "web", "cat", "/etc/hosts").out
    assert f"10.77.0.2\t{web}\n10.78.0.9\t{web}\n" in hosts
    # "back" comes before "front": its gateway is the one, and what is published leads there.
    assert "default via 10.78.0.1" in machine("exec", "web", "busybox", "ip", "route").out
    machine("network", "disconnect", "back", "web")
    assert "default via 10.77.0.1" in machine("exec", "web", "busybox", "ip", "route").out
    assert get(machine, "127.0.0.1") == get(machine, "::1") == web
    assert said(machine, look("db")) == []
    assert "10.78.0.9" not in machine("exec", "web", "cat", "/etc/hosts").out
    machine("network", "disconnect", "front", "web")
    assert networks_of(machine, "web") == {}
    assert get(machine, "127.0.0.1") == ""
    machine("network", "connect", "front", "web")
    assert get(machine, "127.0.0.1") == web
    machine("restart", "-t", "0", "web")
    up(machine, "127.0.0.1", 8080)
    assert list(networks_of(machine, "web")) == ["front"]


def test_names_come_with_the_first_network_that_has_some(networked: NetworkedPybuild) -> None:
    machine = networked
    machine("network", "create", "front")
    run(machine, "db", "exec sleep 1000", "--network", "front")
    run(machine, "web", "exec sleep 1000", "--network", "bridge")
    question = ("exec", "web", "busybox", "nslookup", "db")
    assert "127.0.0.11" not in machine("exec", "web", "cat", "/etc/resolv.conf").out
    machine("network", "connect", "front", "web")
    assert machine("exec", "web", "cat", "/etc/resolv.conf").out.startswith("nameserver 127.0.0.11")
    assert "Name:" in machine(*question).out
    machine("rename", "db", "store")
    assert "Name:" in machine("exec", "web", "busybox", "nslookup", "store").out
    assert "Name:" not in machine(*question, code=None).out
    machine("rename", "store", "db")
    # Whoever kills the monitor, or has the container start again by itself, loses nothing.
    status = Path(f"/proc/{pid_of(machine, 'web')}/status").read_text()
    os.kill(int(status.partition("PPid:")[2].split()[0]), signal.SIGKILL)
    machine("network", "disconnect", "bridge", "web")
    assert list(networks_of(machine, "web")) == ["front"]
    assert "Name:" in machine(*question).out


def pid_of(machine: NetworkedPybuild, name: str) -> int:
    return int(json.loads(machine("inspect", name).out)[0]["State"]["Pid"])


def test_one_that_its_policy_starts_again_is_where_it_was_brought(
    networked: NetworkedPybuild,
) -> None:
    machine = networked
    machine("network", "create", "--subnet", "10.77.0.0/24", "front")
    run(machine, "web", "exec sleep 1000", "--restart", "always", "--network", "bridge")
    machine("network", "connect", "--ip", "10.77.0.7", "front", "web")
    before = pid_of(machine, "web")
    machine("exec", "web", "busybox", "kill", "-9", "-1", code=None)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pid_of(machine, "web") not in (0, before))
    assert "10.77.0.7" in machine("exec", "web", "busybox", "ip", "addr").out
    assert list(networks_of(machine, "web")) == ["bridge", "front"]


def test_one_that_does_not_run_is_on_them_when_it_starts(networked: NetworkedPybuild) -> None:
    machine = networked
    machine("network", "create", "--subnet", "10.77.0.0/24", "front")
    machine("network", "create", "--subnet", "10.78.0.0/24", "back")
    machine("create", "--name", "web", "--network", "front", "base", "sleep", "1000")
    machine("network", "connect", "--alias", "db", "--ip", "10.78.0.9", "back", "web")
    assert networks_of(machine, "web")["back"]["Aliases"] == ["db"]
    wrong = machine("network", "connect", "--ip", "10.99.0.1", "back", "web", code=1).err
    assert "no configured subnet" in wrong
    machine("start", "web")
    run(machine, "client", "exec sleep 1000", "--network", "back")
    assert said(machine, look("db")) == ["10.78.0.9"]
    machine("rename", "web", "site")
    assert said(machine, look("site")) == ["10.78.0.9"]
    assert said(machine, look("web")) == []
    machine("rename", "site", "web")
    machine("kill", "web")
    machine("wait", "web")
    machine("network", "disconnect", "front", "web")
    machine("network", "rm", "front")
    machine("start", "web")
    assert list(networks_of(machine, "web")) == ["back"]


def test_what_cannot_be_is_refused_as_docker_does(networked: NetworkedPybuild) -> None:
    machine = networked
    machine("network", "create", "front")
    run(machine, "web", "exec sleep 1000", "--network", "front")
    run(machine, "hosted", "exec sleep 1000", "--network", "host")
    run(machine, "alone", "exec sleep 1000", "--network", "none")
    run(machine, "beside", "exec sleep 1000", "--network", "container:web")

    def refused(*words: str) -> str:
        return machine("network", *words, code=1).err

    assert "endpoint with name web already exists in network front" in refused(
        "connect", "front", "web"
    )
    shared = "container sharing network namespace with another container or host"
    assert shared in refused("connect", "front", "hosted")
    assert shared in refused("connect", "front", "beside")
    host = "container cannot be disconnected from host network or connected to host network"
    assert host in refused("connect", "host", "web")
    assert host in refused("disconnect", "host", "hosted")
    none = "one of the networks in private (none) mode"
    assert none in refused("connect", "front", "alone")
    assert none in refused("connect", "none", "web")
    assert "is not connected to network bridge" in refused("disconnect", "bridge", "web")
    assert "network nowhere not found" in refused("connect", "nowhere", "web")
    assert "no such container: nobody" in refused("connect", "front", "nobody")
    assert list(networks_of(machine, "web")) == ["front"]


def test_one_that_cannot_be_started_again_keeps_the_exit_code_that_it_had(
    networked: NetworkedPybuild,
) -> None:
    """Its network is gone, or the disk is full: how its last run ended is known all the same [CTR-60]."""
    networked("network", "create", "brief")
    run(networked, "again", "exit 9", "--restart", "always", "--network", "brief")

    def state() -> dict[str, Any]:
        (known,) = json.loads(networked("inspect", "again").out)
        return dict(known["State"])

    wait_until(lambda: networked("network", "rm", "brief", code=None).code == 0)
    wait_until(lambda: "brief not found" in state()["Error"])
    assert (state()["Status"], state()["ExitCode"]) == ("restarting", 9)
    networked("stop", "again")
    assert (state()["Status"], state()["ExitCode"]) == ("exited", 9)
    networked("rm", "again")
