"""The process beside a container as its monitor has it: what cannot be connected, and how it ends [NET-10]."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.networks import apart
from pybuild.networks.calling import call
from pybuild.networks.helper import Helper
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.order import EndpointOrder, NetworkOrder, PortOrder
from tests.needs import need
from tests.networks.test_attaching import ID, order, process_apart

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    need("nft")
    made = Networks(str(tmp_path))
    made.create(NewNetwork(name="net", subnets=("10.83.0.0/24",)))
    return made


@contextmanager
def container() -> Generator[int]:
    """Yield the number of a container's first process, which is killed: its helper has its pipe open, too."""
    with process_apart() as pid:
        try:
            yield pid
        finally:
            os.kill(pid, 9)


def refused(given: NetworkOrder, pid: int) -> Fault:
    with pytest.raises(Fault) as caught:
        Helper(given, pid, lambda: None)
    assert not os.listdir(Path(given.folder, "helpers"))
    return caught.value


def test_what_cannot_be_connected_is_told_and_leaves_nothing(networks: Networks) -> None:
    with container() as pid:
        fault = refused(order(networks, EndpointOrder("nowhere")), pid)
        assert (fault.kind, "nowhere" in str(fault)) == (USER, True)
        taken = order(networks, EndpointOrder("net", (), ("10.83.0.1",)))
        assert "10.83.0.1" in str(refused(taken, pid))
        assert networks.records.endpoints(networks.find("net")) == []


@pytest.mark.slow
def test_more_sockets_than_the_kernel_sends_are_refused(networks: Networks) -> None:
    ports = (PortOrder("tcp", 80, "127.0.0.1", 9_000, 9_300),) * 249
    with container() as pid:
        given = order(networks, EndpointOrder("net"), ports=ports)
        with pytest.raises(Fault) as caught:
            apart.attach(given, pid)
    assert caught.value.kind == ENVIRONMENT
    assert str(caught.value) == "251 sockets of published ports are more than 250"
    assert networks.records.endpoints(networks.find("net")) == []


def test_it_serves_until_its_container_ends(networks: Networks) -> None:
    let_go: list[bool] = []
    with container() as pid:
        given = order(networks, EndpointOrder("net", ("web",)))
        helper = Helper(given, pid, lambda: let_go.append(True))
        known = Helper.known(os.dup(helper.pidfd))
        assert helper.warnings == [] and let_go == []  # that was in its own process
        assert "10.83.0.2\there\n" in helper.hosts
        assert "nameserver 127.0.0.11" in helper.resolv_conf
        assert call(given.folder, ID, "rename", "two") == ("done", [])
        answer = call(given.folder, ID, "nonsense")
        assert answer is not None and answer[:3] == (
            "fault", ENVIRONMENT, "the container was started by another version of pybuild",
        )  # fmt: skip
        answer = call(given.folder, ID, "disconnect", "nowhere")
        assert answer is not None and answer[:2] == ("fault", USER)
        ((network, endpoint),) = networks.records.places(ID)
        assert (network.name, endpoint.names[0]) == ("net", "two")
    assert helper.wait() and known.wait()
    assert networks.records.endpoints(networks.find("net")) == []
    assert call(given.folder, ID, "rename", "three") is None
    assert os.listdir(Path(given.folder, "calls")) == []


def test_another_goes_on_where_one_was_killed(networks: Networks) -> None:
    with container() as pid:
        given = order(networks, EndpointOrder("net"))
        helper = Helper(given, pid, lambda: None)
        known = Helper.known(os.dup(helper.pidfd))
        os.kill(helper.pid, 9)
        assert not helper.wait()
        known.wait()  # by another than who started it
        second = Helper(given, pid, lambda: None, follows=True)
        while call(given.folder, ID, "rename", "two") is None:
            pass
        assert networks.records.places(ID)[0][1].names[0] == "two"
    assert second.wait()
    assert networks.records.endpoints(networks.find("net")) == []
