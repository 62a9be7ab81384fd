"""Containers brought to networks and taken off them: what is called for, kept, and refused [NET-30, NET-3]."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.disk.locks import boot_id, born
from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.connecting import connect, disconnect, rename
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.names import new_id
from pybuild.containers.order import LOCK, ContainerOrder, accept, read_order, write_order
from pybuild.containers.state import RUNNING, ContainerState, write_state
from pybuild.executor.steps.spec import StepSpec
from pybuild.model.border import packed
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.networks.calling import call, listen, receive, reply
from pybuild.networks.networks import Networks, NewNetwork
from pybuild.networks.order import EndpointOrder, NetworkOrder
from pybuild.networks.records import NetworkEndpoint, start_time
from tests.clocks import FakeClock


@pytest.fixture
def containers(tmp_path: Path) -> Generator[Containers]:
    with Store.open(str(tmp_path), FakeClock()) as store:
        made = Containers(store)
        for name in ("one", "two"):
            Networks(made.root).create(NewNetwork(name=name))
        yield made


def make(
    containers: Containers, network: str = "one", *places: str, name: str = "web"
) -> Container:
    return containers.create(
        ContainerConfig(
            id=new_id(),
            name=name,
            image="base",
            manifest="",
            deltas=(),
            network=network,
            networks=tuple(map(EndpointOrder, places)),
        )
    )


def networks_of(containers: Containers, one: Container) -> list[str]:
    return [place.network for place in containers.find(one.config.id).config.networks]


@contextmanager
def running(
    containers: Containers, one: Container, answers: Callable[[Sequence[Any]], Sequence[Any] | None]
) -> Generator[list[Sequence[Any]]]:
    """Have a container run as far as its files say, with a helper that *answers*; yield what that hears."""
    folder = Networks(containers.root).records.folder
    listener = listen(folder, one.config.id)
    heard: list[Sequence[Any]] = []

    def serve() -> None:
        listener.settimeout(60)
        while True:
            caller = accept(listener)
            message = receive(caller)
            if not message:
                caller.close()
                return
            heard.append(message)
            answer = answers(message)
            if answer is not None:
                reply(caller, answer)
            caller.close()

    state = ContainerState(RUNNING, os.getpid(), boot_id() or "", born=born(os.getpid()), started=1)
    order = ContainerOrder(
        one.config.id,
        StepSpec((), "", "", ()),
        networks=NetworkOrder(folder, one.config.id, "web", "web", ()),
    )
    with one.home() as home, open(Path(one.path, LOCK), "w") as lock:
        write_state(home, state)
        write_order(home, order)
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            call(folder, one.config.id)  # says nothing
            thread.join()
            listener.close()
            write_state(home, ContainerState())


def done(_message: Sequence[Any]) -> Sequence[Any]:
    return ("done", ["a warning"])


def test_one_that_does_not_run_is_on_it_from_its_next_start(containers: Containers) -> None:
    one = make(containers)
    assert not connect(containers, one, EndpointOrder("two", aliases=("w",)))
    assert containers.find("web").config.networks == (EndpointOrder("two", aliases=("w",)),)
    assert not connect(containers, one, EndpointOrder("one"))
    assert networks_of(containers, one) == ["two", "one"]
    id = Networks(containers.root).find("two").id
    connect(containers, one, EndpointOrder(id[:8]))  # once more, by another name of it
    assert containers.find("web").config.networks == (EndpointOrder("one"), EndpointOrder("two"))
    disconnect(containers, one, id)
    assert networks_of(containers, one) == ["one"]
    with pytest.raises(UserError) as caught:
        disconnect(containers, one, "two")
    assert str(caught.value.message) == (
        f"container {one.config.id} is not connected to the network two"
    )
    assert list(caught.value.hints) == ["pybuild inspect web shows the networks that it is on"]


def test_a_network_that_is_gone_is_left(containers: Containers) -> None:
    one = make(containers, "one", "one", "gone")
    disconnect(containers, one, "gone")
    assert networks_of(containers, one) == ["one"]
    with pytest.raises(UserError, match="is not connected to the network nowhere"):
        disconnect(containers, one, "nowhere")


@pytest.mark.parametrize(
    ("mode", "network", "message"),
    [
        ("host", "one", "container sharing network namespace with another container or host"),
        ("container:x", "one", "container sharing network namespace with another container"),
        ("one", "host", "container cannot be disconnected from host network or connected to host"),
        ("none", "one", "container cannot be connected to multiple networks with one of the"),
        ("one", "none", "container cannot be connected to multiple networks with one of the"),
    ],
)
def test_some_cannot_be_connected(
    containers: Containers, mode: str, network: str, message: str
) -> None:
    one = make(containers, mode)
    with pytest.raises(UserError, match=message) as caught:
        connect(containers, one, EndpointOrder(network))
    assert list(caught.value.hints) == ["create another container, with --network"]
    assert networks_of(containers, one) == []


def test_one_of_the_host_is_not_taken_off_it(containers: Containers) -> None:
    one = make(containers, "host", "host")
    with pytest.raises(UserError, match="cannot be disconnected from host network"):
        disconnect(containers, one, "host")
    with pytest.raises(UserError, match="is not connected to the network two"):
        disconnect(containers, one, "two")


def test_the_helper_of_one_that_runs_is_called(containers: Containers) -> None:
    one = make(containers)
    id = Networks(containers.root).find("two").id
    with running(containers, one, done) as heard:
        place = EndpointOrder("two", aliases=("w",))
        assert connect(containers, one, place._replace(network=id)) == ["a warning"]
        assert heard == [("connect", packed(place))]
        with one.home() as home:
            order = read_order(home).networks
        assert order is not None and order.endpoints == (place,)
        disconnect(containers, one, "two")
        assert heard[1:] == [("disconnect", id)]
        with one.home() as home:
            order = read_order(home).networks
        assert order is not None and order.endpoints == (EndpointOrder("one"),)
        assert networks_of(containers, one) == []
        rename(containers, one, "other")
        assert heard[2:] == [("rename", "other")]
        with one.home() as home:
            order = read_order(home).networks
        assert order is not None and order.name == "other"


def test_a_refusal_changes_nothing(containers: Containers) -> None:
    one = make(containers, "one", "one")

    def refuse(_message: Sequence[Any]) -> Sequence[Any]:
        return ("fault", "user", "no address", ("take another",))

    with running(containers, one, refuse):
        with pytest.raises(UserError, match="no address"):
            connect(containers, one, EndpointOrder("two"))
        with pytest.raises(UserError, match="no address"):
            disconnect(containers, one, "one")
        with pytest.raises(UserError, match="no address"):  # by force, but nobody knows its place
            disconnect(containers, one, "one", force=True)
        assert networks_of(containers, one) == ["one"]
        networks = Networks(containers.root)
        endpoint = NetworkEndpoint(
            one.config.id, "web", os.getpid(), start_time(os.getpid()), boot_id() or ""
        )
        networks.records.keep(networks.find("one"), endpoint)
        disconnect(containers, one, "one", force=True)
        assert networks_of(containers, one) == []
        with pytest.raises(UserError, match="network gone not found|no such network|gone"):
            disconnect(containers, one, "gone")


def test_where_nobody_serves_it_the_fault_says_so(containers: Containers) -> None:
    one = make(containers)
    with running(containers, one, lambda _: None), pytest.raises(EnvironmentFault) as caught:
        connect(containers, one, EndpointOrder("two"))
    assert caught.value.message == (
        "nobody serves the networks of container web: its helper was killed, or it has just ended"
    )
    assert list(caught.value.hints) == ["try again: another follows; or pybuild restart web"]
    assert networks_of(containers, one) == []


def test_a_name_is_given_though_nobody_serves_it(containers: Containers) -> None:
    one = make(containers)
    with running(containers, one, lambda _: None) as heard:
        rename(containers, one, "other")
        assert heard == [("rename", "other")]
    assert containers.find("other").config.id == one.config.id
    host = make(containers, "host", name="web")
    with running(containers, host, done) as heard:
        rename(containers, host, "third")
        assert heard == []
