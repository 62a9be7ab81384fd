"""Containers on a network, from its making to its removal, on a machine of their own [NET-1, NET-10, NET-24].

The processes that serve networks are beside each container, so a quick test of theirs is one of real ones.
"""

from __future__ import annotations

import os
import socket
import subprocess
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pybuild.containers.connecting import connect, disconnect, rename
from pybuild.containers.container import Container
from pybuild.executor.zygote import syscalls
from pybuild.model.errors import UserError
from pybuild.networks.calling import call
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.order import EndpointOrder, PortOrder
from tests.containers.busyboxes import BusyboxContainers, busybox_containers, execute, lines, until
from tests.needs import need

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

_NEWNET = 0x40000000


def on_a_bare_machine(work: Callable[[], None]) -> None:
    """Do *work* in a process that has a loopback device, and no other network."""
    need("ip")
    need("nft")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            syscalls.unshare(_NEWNET)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=60)
            work()
            status = 0
        except Exception:  # noqa: BLE001  told by the status
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def answer(port: int, host: str = "127.0.0.1") -> bytes:
    """Return all that a server says to one who ends what it says."""
    with socket.create_connection((host, port), timeout=60) as own:
        own.shutdown(socket.SHUT_WR)
        data = b""
        while piece := own.recv(1000):
            data += piece
        return data


def test_one_is_found_by_its_name_and_its_port(tmp_path: Path) -> None:
    def work() -> None:
        with busybox_containers(tmp_path / "store") as containers:
            _one_is_found(containers)

    on_a_bare_machine(work)


def _has_said_something(container: Container) -> bool:
    return lines(container) != []


def _one_is_found(containers: BusyboxContainers) -> None:
    networks = Networks(containers.root)
    made = networks.create(NewNetwork(name="net", subnets=("10.99.0.0/24",)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = containers.make(
        "echo up; exec busybox nc -ll -p 80 -e echo hello",
        "server",
        network="net",
        networks=(EndpointOrder("net", aliases=("web",)),),
        ports=(PortOrder("tcp", 80, "127.0.0.1", port, port),),
    )
    client = containers.make("echo up; exec sleep 1000", "client", network="net")
    for one in (server, client):
        assert list(containers.start(one)) == []
        until(partial(_has_said_something, one))
    assert answer(port) == b"hello\n"
    script = "echo | busybox nc web 80 && busybox nslookup server >/dev/null && cat /etc/hosts"
    assert execute(client, "sh", "-c", f"({script}) > /said") == 0
    said = Path(client.path, "fs/said").read_text()
    assert said.startswith("hello\n") and "\there" in said
    assert execute(client, "busybox", "nslookup", "nobody") != 0
    others = networks.create(NewNetwork(name="other"))
    connect(containers, client, EndpointOrder("other"))
    assert [one.name for one in networks.records.living(others)] == ["client"]
    assert execute(client, "sh", "-c", "cat /etc/hosts > /told") == 0
    places = networks.records.places(client.config.id)
    lines_told = Path(client.path, "fs/told").read_text().splitlines()
    for _, endpoint in places:
        assert f"{endpoint.address(4)}\there" in lines_told
    with pytest.raises(UserError, match="already exists in network other"):
        connect(containers, client, EndpointOrder("other"))
    rename(containers, client, "guest")
    assert execute(client, "busybox", "nslookup", "guest.other") == 0
    answered = call(networks.records.folder, client.config.id, "what")
    assert "another version of pybuild" in str(answered)
    client = containers.find("guest")
    disconnect(containers, client, "other")
    with pytest.raises(UserError, match="is not connected to network other"):
        disconnect(containers, containers.find("guest"), "other")
    containers.remove(server, force=True)
    with pytest.raises(OSError):
        answer(port)
    containers.remove(client, force=True)
    networks.remove("other")
    networks.remove(made.name)
    until(_has_no_devices)


def _has_no_devices() -> bool:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True, timeout=60)
    return not any(b"veth" in line or b"br-" in line for line in links.stdout.splitlines())
