"""The network of steps of builds by root, on a machine of its own [SBX-19]."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild, leftovers, write
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.root]

STRICT = "{ type filter hook forward priority 0; policy drop; }'"
# Serves each address that it is given, with its name, and an abstract socket; a name server that
# answers whoever asks it from a loopback address is one of them.
SERVER = r"""
import selectors, socket, sys
chosen = selectors.DefaultSelector()
for word in sys.argv[1:]:
    address, _, port = word.rpartition(":")
    if address == "@":
        made = socket.socket(socket.AF_UNIX)
        made.bind("\0" + port)
    elif port == "53":
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, 53))
    else:
        made = socket.create_server((address, int(port)))
    if made.type == socket.SOCK_STREAM:
        made.listen()
    chosen.register(made, selectors.EVENT_READ, word)
print("ready", flush=True)
while True:
    for key, _ in chosen.select():
        if key.fileobj.type == socket.SOCK_DGRAM:
            data, peer = key.fileobj.recvfrom(512)
            if peer[0].startswith("127."):
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x0a\1\2\3" if b"\0\0\1\0\1" in data else b""
                head = data[:2] + b"\x81\x80\0\1" + (b"\0\1" if answer else b"\0\0") + bytes(4)
                key.fileobj.sendto(head + data[12:] + answer, peer)
        else:
            client, peer = key.fileobj.accept()
            client.sendall(f"{key.data} hears {peer[0] if peer else ''}\n".encode())
            client.close()
"""


@pytest.fixture
def machine(pybuild: Pybuild, base: str) -> Generator[NetworkedPybuild]:
    """A store with the image *base* on a machine whose only wire leads to 10.9.9.1."""
    assert base
    for program in ("nsenter", "ip", "nft"):
        need(program)
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with network_namespace() as pid, network_namespace() as beyond:
        made = NetworkedPybuild(pybuild.store, pybuild.config, pid)
        made.sh(f"ip link add up0 type veth peer name up1 netns {beyond}")
        made.sh("ip addr add 10.9.9.2/24 dev up0; ip link set up0 up mtu 1400")
        made.sh("ip route add default via 10.9.9.1")
        outside = NetworkedPybuild(pybuild.store, pybuild.config, beyond)
        outside.sh("ip addr add 10.9.9.1/24 dev up1; ip link set up1 up")
        with serving(outside, "10.9.9.1:80"):
            yield made
        wait_until(lambda: not leftovers(pybuild.store))
        wait_until(lambda: wires(made) == [])


@contextmanager
def serving(machine: NetworkedPybuild, *words: str) -> Generator[None]:
    command = [*machine.inside(), sys.executable, "-I", "-S", "-c", SERVER, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def wires(machine: NetworkedPybuild) -> list[str]:
    lines = machine.sh("ip -o link").out.splitlines()
    return [name for line in lines if (name := line.split(": ")[1]).startswith("pbstep")]


def build(machine: NetworkedPybuild, place: Path, *runs: str, words: tuple[str, ...] = ()) -> str:
    """Build these steps; return the output."""
    lines = ["FROM base", *(f"RUN {run}" for run in runs)]
    context = write(place, Dockerfile="\n".join(lines) + "\n")
    done = machine("build", "--progress=plain", "--no-cache", *words, context)
    return done.err


def get(address: str, port: int) -> str:
    """Return a script that prints who answers; what is never answered costs these seconds."""
    return f"echo {address}: $(busybox nc -w 10 {address} {port} </dev/null 2>&1);"


def test_a_step_reaches_others_and_nothing_that_this_machine_keeps_for_itself(
    machine: NetworkedPybuild, tmp_path: Path
) -> None:
    machine.sh("ip addr add 169.254.169.254/32 dev lo")
    served = ("127.0.0.1:8081", "169.254.169.254:80", "0.0.0.0:8083", "@:display")
    script = get("127.0.0.1", 8081) + get("169.254.169.254", 80) + get("10.9.9.1", 80)
    script += "cat /proc/net/unix; cat /etc/hosts; " + get("me", 8083) + get("me", 8081)
    script += "echo mtu $(busybox ip -o link show eth0 | busybox sed 's/.*mtu //;s/ .*//')"
    with serving(machine, *served):
        text = build(machine, tmp_path / "c", script, words=("--add-host=me:host-gateway",))
    assert "10.9.9.1: 10.9.9.1:80 hears 10.9.9.2\n" in text
    assert "me: 0.0.0.0:8083 hears 172." in text
    assert "mtu 1400\n" in text
    assert "127.0.0.1:8081 hears" not in text
    assert "169.254.169.254:80 hears" not in text
    assert "display" not in text.replace(script, "")


def test_a_name_server_that_this_machine_alone_reaches_is_asked_for_steps(
    machine: NetworkedPybuild, tmp_path: Path
) -> None:
    servers = tmp_path / "resolv.conf"
    servers.write_text("nameserver 127.0.0.54\n")
    script = f'mount --bind {servers} /etc/resolv.conf && exec "$@"'

    class Resolving(NetworkedPybuild):
        def command(self, *words: str | Path) -> list[str]:
            inside, rest = self.inside(), super().command(*words)[len(self.inside()) :]
            return [*inside, "unshare", "-m", "sh", "-c", script, "sh", *rest]

    resolving = Resolving(machine.store, machine.config, machine.pid)
    with serving(machine, "127.0.0.54:53"):
        text = build(resolving, tmp_path / "c", "busybox nslookup a.test; cat /etc/resolv.conf")
    assert "10.1.2.3" in text
    assert "127.0.0.54" not in text


def test_a_killed_build_leaves_no_wire_and_the_next_one_finds_its_way(
    machine: NetworkedPybuild, tmp_path: Path
) -> None:
    context = write(tmp_path / "k", Dockerfile="FROM base\nRUN echo it runs; sleep 1000\n")
    command = machine.command("build", "--no-cache", "--progress=plain", context)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=machine.environment, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        while not process.stderr.readline().endswith(" it runs\n"):
            assert process.poll() is None
        assert wires(machine) != []
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: wires(machine) == [])
    before = machine.sh("nft list ruleset; ip -o addr show pybuild0").out
    assert "hears 10.9.9.2" in build(machine, tmp_path / "c", get("10.9.9.1", 80))
    assert machine.sh("nft list ruleset; ip -o addr show pybuild0").out == before
    machine.sh("nft flush ruleset; ip link del pybuild0")
    assert "hears 10.9.9.2" in build(machine, tmp_path / "c", get("10.9.9.1", 80))


def test_where_packets_would_be_lost_steps_share_the_network_and_it_is_said_once(
    machine: NetworkedPybuild, tmp_path: Path
) -> None:
    machine.sh("nft 'add table ip f; add chain ip f FORWARD " + STRICT)
    ours = machine.sh("readlink /proc/self/ns/net").out.strip()
    text = build(machine, tmp_path / "c", "busybox readlink /proc/self/ns/net", "echo second")
    assert text.count("steps share this machine's network: ") == 1
    assert "the packet filter's chain ip f FORWARD drops what is not allowed there" in text
    assert ours in text


def test_the_chain_that_docker_keeps_for_others_lets_packets_of_steps_pass(
    machine: NetworkedPybuild, tmp_path: Path
) -> None:
    machine.sh(
        "nft 'add table ip filter; add chain ip filter DOCKER-USER; add chain ip filter FORWARD "
        f"{STRICT}; nft add rule ip filter FORWARD jump DOCKER-USER"
    )
    for name in ("c", "d"):
        assert "hears 10.9.9.2" in build(machine, tmp_path / name, get("10.9.9.1", 80))
    shown = machine.sh("nft list chain ip filter DOCKER-USER").out
    assert [line.strip() for line in shown.splitlines()[2:-2]] == [
        'oifname "pybuild0" accept',
        'iifname "pybuild0" accept',
    ]


def test_the_configuration_may_have_steps_share_the_network(
    machine: NetworkedPybuild, tmp_path: Path
) -> None:
    config = tmp_path / "pybuild.toml"
    config.write_text('[network]\nmode = "host"\n')
    sharing = NetworkedPybuild(machine.store, config, machine.pid)
    ours = machine.sh("readlink /proc/self/ns/net").out.strip()
    show = "busybox readlink /proc/self/ns/net"
    assert ours in build(sharing, tmp_path / "c", show)
    assert ours not in build(sharing, tmp_path / "c", f"--network=none {show}")
    words = ("--network=host", "--allow=network.host")
    assert ours in build(machine, tmp_path / "c", show, words=words)
