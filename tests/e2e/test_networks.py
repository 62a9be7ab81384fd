"""Containers on networks of their own, as root, on a machine of their own [NET]."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.networked import (
    SERVE,
    NetworkedPybuild,
    asked,
    devices,
    get,
    named,
    run,
    tries,
    up,
)
from tests.e2e.test_container_life import spawners
from tests.e2e.test_containers import monitors, wait_until
from tests.e2e.test_reachability import HERE, OUTSIDE, THERE, wired
from tests.harness import leftovers

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]


@pytest.fixture
def machine(networked: NetworkedPybuild) -> NetworkedPybuild:
    return networked


def mapping(machine: NetworkedPybuild, library: str) -> list[str]:
    """Return the processes of the store's containers that have a library in memory."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(machine.store).encode() in (entry / "environ").read_bytes():
                found += [entry.name] if library in (entry / "maps").read_text() else []
    return found


def table(machine: NetworkedPybuild) -> str:
    return machine.sh("nft list ruleset").out


def has_no_network(machine: NetworkedPybuild) -> bool:
    """Whether the kernel has nothing of a store's networks."""
    return (devices(machine, "br-"), table(machine)) == ([], "")


def test_two_find_each_other_are_reached_by_a_port_and_leave_nothing(
    machine: NetworkedPybuild,
) -> None:
    machine("network", "create", "--subnet", "10.77.0.0/24", "front")
    web = run(machine, "web", SERVE, "--network", "front", "-p", "8080:80")[:12]
    up(machine, "10.77.0.2")
    assert get(machine, "127.0.0.1") == web
    assert mapping(machine, "libpython") != []
    assert mapping(machine, "libnftables") == []  # who connects a container ends
    assert get(machine, "10.77.0.1") == web
    assert get(machine, "::1") == web
    shown = "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    assert machine("ps", "--format", "{{.Ports}} {{.Networks}}").out == f"{shown} front\n"
    assert machine("port", "web", "80").out == "0.0.0.0:8080\n[::]:8080\n"
    assert "no public port '81'" in machine("port", "web", "81", code=1).err
    settings = json.loads(machine("inspect", "web").out)[0]["NetworkSettings"]
    assert settings["Networks"]["front"]["IPAddress"] == "10.77.0.2"
    assert settings["Ports"]["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": "8080"}
    assert named(machine, "web", "--network", "front") == ["10.77.0.2"]
    assert named(machine, "WEB.front", "--network", "front") == ["10.77.0.2"]
    lines = asked(
        machine,
        "cat /etc/resolv.conf; cat /etc/hosts; busybox nslookup nobody",
        "--network",
        "front",
        "--hostname",
        "me.here",
        "--dns-search",
        ".",
    )
    assert lines[:2] == ["nameserver 127.0.0.11", "options ndots:0"]
    assert "10.77.0.5\tme.here me" in lines
    assert any("SERVFAIL" in line for line in lines)
    assert "has active endpoints: web" in machine("network", "rm", "front", code=1).err
    machine("rm", "-f", "web")
    assert get(machine, "10.77.0.1") == ""
    machine("network", "rm", "front")
    assert devices(machine, "br-") == []  # of all that nobody is on
    assert "10.77.0" not in table(machine)


def test_the_default_is_the_bridge_which_goes_with_its_last_container(
    machine: NetworkedPybuild,
) -> None:
    """As docker's, but for what is left after a moment: no device and no table [NET-1, NET-10, NET-25]."""
    shown = "busybox ip -o addr show eth0; busybox cat /etc/resolv.conf"
    words = ("--dns", "192.0.2.53", "--dns-search", "example.org")
    lines = machine("run", "--rm", *words, "base", "sh", "-c", shown).out.splitlines()
    assert " 172.17.0.2/16 " in lines[0]
    assert lines[-2:] == ["nameserver 192.0.2.53", "search example.org"]
    wait_until(lambda: has_no_network(machine))
    run(machine, "one", SERVE, "-p", "8080:80")
    run(machine, "two", "exec sleep 1000")
    machine("network", "create", "front")
    run(machine, "three", "exec sleep 1000", "--network", "front")
    assert len(devices(machine, "br-")) == 2
    machine("rm", "-f", "three")
    wait_until(lambda: len(devices(machine, "br-")) == 1)
    machine("kill", "one")
    machine("wait", "one")
    machine("kill", "two")
    machine("wait", "two")
    wait_until(lambda: has_no_network(machine))
    machine("start", "two")
    machine("network", "disconnect", "bridge", "two")
    assert has_no_network(machine)


def test_a_network_stays_in_the_kernel_until_the_spawner_rests(machine: NetworkedPybuild) -> None:
    """To make and remove it takes 100 ms. Where that was killed, a monitor has it removed [NET-25, MON-6]."""
    run(machine, "one", "exec sleep 1000", "--restart", "always")
    (bridge,) = devices(machine, "br-")
    number = machine.sh(f"ip -o link show {bridge}").out.partition(":")[0]
    first = machine("inspect", "-f", "{{.State.Pid}}", "one").out
    os.kill(int(first), signal.SIGKILL)  # it is on no network until it is started again
    wait_until(lambda: machine("inspect", "-f", "{{.State.Pid}}", "one").out not in (first, "0\n"))
    assert machine.sh(f"ip -o link show {bridge}").out.partition(":")[0] == number
    (spawner,) = spawners(machine.store)
    os.kill(spawner, signal.SIGKILL)
    machine("rm", "-f", "one")
    wait_until(lambda: has_no_network(machine))  # its monitor does it then


def test_a_network_leaves_the_kernel_though_its_store_was_deleted(
    machine: NetworkedPybuild,
) -> None:
    """As by who runs something in a store of a moment [NET-25]."""
    other = NetworkedPybuild(machine.store.with_name("other"), machine.config, machine.pid)
    subprocess.run(["cp", "-a", machine.store, other.store], check=True, timeout=60)
    other("network", "create", "front")
    other("run", "--rm", "--network", "front", "base", "true")
    shutil.rmtree(other.store)
    wait_until(lambda: has_no_network(machine))


def test_two_stores_of_a_machine_do_not_meet(machine: NetworkedPybuild) -> None:
    """Each chose its subnet while the other's was not in the kernel; one that was given stays."""
    other = NetworkedPybuild(machine.store.with_name("other"), machine.config, machine.pid)
    subprocess.run(["cp", "-a", machine.store, other.store], check=True, timeout=60)
    try:
        for one in (machine, other):
            one("network", "create", "front")
        for one in (machine, other):
            run(one, "web", SERVE)
            run(one, "front", SERVE, "--network", "front")
        addresses = [
            one("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
            for one in (machine, other)
            for name in ("web", "front")
        ]
        assert len({one.out.rpartition(".")[0] for one in addresses}) == 4
        for shown in addresses:
            up(machine, shown.out.strip())
    finally:
        other("rm", "-f", "web", "front", code=None)
    wait_until(lambda: len(devices(machine, "br-")) == 2)
    wait_until(lambda: not leftovers(other.store))


def test_where_somebody_drops_what_is_forwarded_the_default_is_the_machines(
    machine: NetworkedPybuild,
) -> None:
    machine.sh("nft add table inet strict")
    machine.sh(
        "nft 'add chain inet strict pass { type filter hook forward priority 0; policy drop; }'"
    )
    done = machine("run", "--rm", "base", "busybox", "ip", "-o", "link")
    assert [line.split(": ")[1] for line in done.out.splitlines()] == ["lo"]
    assert done.err == (
        "warning: the container has this machine's network: the packet filter's chain inet strict "
        "pass drops what is not allowed there\n"
    )
    done = machine("run", "--rm", "--network", "bridge", "base", "true")
    assert "containers may reach nobody" in done.err
    assert machine("run", "--rm", "--network", "host", "base", "true").err == ""


def test_where_docker_drops_what_is_forwarded_its_own_chain_lets_containers_pass(
    machine: NetworkedPybuild,
) -> None:
    machine.sh(
        "nft 'add table ip filter; add chain ip filter DOCKER-USER; add chain ip filter FORWARD "
        "{ type filter hook forward priority 0; policy drop; }; "
        "add rule ip filter FORWARD jump DOCKER-USER'"
    )
    with wired(machine) as other:
        web = run(machine, "web", SERVE, "-p", "8080:80")[:12]
        up(machine, "127.0.0.1", 8080)
        assert asked(machine, tries((THERE, 80))) == [OUTSIDE]
        assert get(other, HERE) == web
        inside = machine.sh("nft list chain ip filter DOCKER-USER").out
        assert inside.count('"br-') == 2
        machine("rm", "-f", *machine("ps", "-aq").out.split())
    wait_until(lambda: '"br-' not in machine.sh("nft list ruleset").out)


def test_the_other_kinds_of_networks(machine: NetworkedPybuild) -> None:
    web = run(machine, "web", SERVE, "-p", "80", "--network", "default")[:12]
    up(machine, "172.17.0.2")
    assert named(machine, "web", "--network", "bridge") == []  # no names there, as in docker
    assert asked(machine, tries(("127.0.0.1", 80)), "--network", "container:web") == [web]
    assert asked(machine, "ls /sys/class/net", "--network", "none") == ["lo"]
    run(machine, "beside", "exec sleep 600", "--network", "container:web")
    machine("restart", "-t", "0", "web", "beside")  # another process, and so another namespace
    assert "172.17.0." in machine("exec", "beside", "busybox", "ip", "addr").out
    run(machine, "gone", "true")
    machine("wait", "gone")
    error = machine("run", "-d", "--network", "container:gone", "base", "true", code=125).err
    assert "cannot join network of a non running container: gone" in error
    assert (
        "network nowhere not found"
        in machine("run", "-d", "--network", "nowhere", "base", "true", code=125).err
    )
    six = ("--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64")
    machine("network", "create", *six, "six")
    run(machine, "alias", SERVE, "--network", "six", "--network-alias", "db", "--ip", "10.77.0.9")
    up(machine, "10.77.0.9")
    assert get(machine, "fd77::2", 80) != ""
    id = machine("network", "inspect", "-f", "{{.Id}}", "six").out.strip()
    for text in ("six", id, id[:10]):
        listed = machine("ps", "--filter", f"network={text}", "--format", "{{.Names}}")
        assert listed.out == "alias\n"
    assert named(machine, "db", "--network", "six") == ["10.77.0.9", "fd77::2"]
    taken = machine("run", "-d", "--network", "six", "--ip", "10.77.0.9", "base", "true", code=125)
    assert "address 10.77.0.9 is already in use on network six" in taken.err


@pytest.mark.parametrize("proxies", [True, False])
def test_a_signal_while_a_run_in_front_is_started_is_the_containers(
    machine: NetworkedPybuild, proxies: bool
) -> None:
    """There is a container by then: who was cancelled would leave it behind, and nobody's.

    Here, since the sockets of a machine of our own show when somebody waits for the spawner.
    """
    run(machine, "first", "exec sleep 1000", "--network", "none")
    (spawner,) = spawners(machine.store)
    before = waiting_for_spawner(machine)
    script = "trap 'exit 5' INT; while :; do sleep 0.1; done"
    option = f"--sig-proxy={str(proxies).lower()}"
    words = ("run", option, "--name", "one", "--network", "none", "base", "sh", "-c", script)
    os.kill(spawner, signal.SIGSTOP)
    try:
        client = subprocess.Popen(
            machine.command(*words), env=machine.environment, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: waiting_for_spawner(machine) > before)
        client.send_signal(signal.SIGINT)
    finally:
        os.kill(spawner, signal.SIGCONT)
    said = client.communicate(timeout=120)[1]
    runs = machine("ps", "-q", "--filter", "name=one").out != ""
    if proxies:  # the second, where it came before the trap was there
        assert (client.returncode in (5, 128 + signal.SIGINT), said, runs) == (True, "", False)
    else:
        assert (client.returncode, runs) == (128 + signal.SIGINT, True)


def waiting_for_spawner(machine: NetworkedPybuild) -> int:
    """Return how many sockets bear the spawner's address: those of clients, too, until it takes them."""
    lines = machine.sh("cat /proc/net/unix").out.splitlines()
    return sum(line.endswith("/spawner") for line in lines)


def test_what_was_killed_is_cleaned_up_by_the_next(machine: NetworkedPybuild) -> None:
    """The helper that holds names and ports, then all: the next container has both again [NET-25]."""
    run(machine, "one", "exec sleep 1000", "--network", "bridge", "-p", "8080:80")
    clash = machine("run", "-d", "-p", "8080:80", "base", "true", code=125).err
    assert "cannot publish 0.0.0.0:8080 for 80/tcp of the container: port is already" in clash
    first = int(machine("inspect", "-f", "{{.State.Pid}}", "one").out)
    # The older first: none has the time to replace another.
    for pid in sorted({*spawners(machine.store), *monitors(machine.store)}):
        os.kill(pid, signal.SIGKILL)
    machine.sh("nft flush ruleset; ip link del $(ip -o link | grep -o 'br-[0-9a-f]*' | head -1)")
    os.kill(first, signal.SIGKILL)
    machine("wait", "one")
    web = run(machine, "two", SERVE, "--network", "bridge", "-p", "8080:80")[:12]
    up(machine, "127.0.0.1", 8080)
    assert get(machine, "127.0.0.1") == web
    (shown,) = json.loads(machine("network", "inspect", "bridge").out)
    assert [one["Name"] for one in shown["Containers"].values()] == ["two"]
    assert os.listdir(machine.store / "networks/helpers") == [shown_id(shown)]


@pytest.mark.parametrize("adopted", [False, True])
def test_another_follows_on_a_helper_that_is_killed(
    machine: NetworkedPybuild, adopted: bool
) -> None:
    """It has the names, the ports that are carried and the calls, whichever monitor there is [NET-25]."""
    for name in ("front", "back"):
        machine("network", "create", name)
    web = run(machine, "web", SERVE, "--network", "front", "-p", "8080:80")[:12]
    up(machine, "::1", 8080)
    if adopted:
        (monitor,) = monitors(machine.store)
        os.kill(monitor, signal.SIGKILL)
        wait_until(lambda: monitor not in monitors(machine.store))
        wait_until(lambda: bool(monitors(machine.store)))
    for _ in range(2):
        os.kill(helper_at_work(machine), signal.SIGKILL)
        wait_until(lambda: get(machine, "::1") == web)
    assert get(machine, "127.0.0.1") == web
    lookup = ("exec", "web", "busybox", "nslookup", "web")
    wait_until(lambda: "Name:" in machine(*lookup, code=None).out)
    machine("network", "connect", "back", "web")
    machine("network", "disconnect", "front", "web")
    wait_until(lambda: get(machine, "::1") == web)
    machine("kill", "web")
    machine("wait", "web")
    wait_until(lambda: devices(machine, "veth") == [])
    wait_until(lambda: os.listdir(machine.store / "networks/helpers") == [])


def test_a_helper_that_has_nothing_to_do_rests(machine: NetworkedPybuild) -> None:
    """Its sockets wait in the monitor, also one that sleeps, for whoever asks; its container's end is cleaned up [NET-25, MON-4]."""
    for name in ("front", "back"):
        machine("network", "create", name)
    web = run(machine, "web", SERVE, "--network", "front", "-p", "8080:80")[:12]
    lookup = ("exec", "web", "busybox", "nslookup", "web")
    up(machine, "::1", 8080)
    wait_until(lambda: rests(machine))
    assert get(machine, "::1") == web
    wait_until(lambda: "Name:" in machine(*lookup, code=None).out)
    wait_until(lambda: rests(machine))
    assert "Name:" in machine(*lookup).out
    wait_until(lambda: rests(machine))
    machine("network", "connect", "back", "web")
    machine("network", "disconnect", "front", "web")
    wait_until(lambda: get(machine, "::1") == web)
    wait_until(lambda: rests(machine))
    (monitor,) = monitors(machine.store)
    os.kill(monitor, signal.SIGKILL)  # the spawner has all that it had
    wait_until(lambda: monitors(machine.store) not in ([], [monitor]))
    assert get(machine, "::1") == web
    wait_until(lambda: rests(machine))
    machine("restart", "-t", "0", "web")
    up(machine, "::1", 8080)
    wait_until(lambda: rests(machine))
    machine("kill", "web")
    machine("wait", "web")
    wait_until(lambda: devices(machine, "veth") == [])
    wait_until(lambda: os.listdir(machine.store / "networks/helpers") == [])
    assert os.listdir(machine.store / "networks/calls") == []
    run(machine, "two", SERVE, "--network", "back", "-p", "8080:80")


def rests(machine: NetworkedPybuild) -> bool:
    """Whether the port's socket is nobody's but of the one monitor and of the spawner."""
    found = monitors(machine.store)
    both = {*found, *spawners(machine.store)}
    return len(found) == 1 and set(socket_holders(machine)) == both


def helper_at_work(machine: NetworkedPybuild) -> int:
    """Return the process that alone has the port's socket: it is started for who connects."""
    found: list[int] = []

    def is_alone() -> bool:
        get(machine, "::1")
        found[:] = socket_holders(machine)
        return len(found) == 1

    wait_until(is_alone)
    return found[0]


def shown_id(network: dict[str, dict[str, object]]) -> str:
    (id,) = network["Containers"]
    return id


def socket_holders(machine: NetworkedPybuild) -> list[int]:
    """Return the processes that listen on the machine's port 8080."""
    text = machine.sh("cat /proc/net/tcp").out
    inodes = {line.split()[9] for line in text.splitlines() if ":1F90 00000000" in line}
    assert inodes
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            links = {os.readlink(fd) for fd in (entry / "fd").iterdir()}
            if any(f"socket:[{inode}]" in links for inode in inodes):
                found.append(int(entry.name))
    return found
