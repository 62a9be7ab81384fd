"""The network of steps that ask for none."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.executor.stepnetworks import DefaultNetwork
from pybuild.executor.steps.spec import Connecting
from pybuild.executor.workers.job import JobService
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import EnvironmentFault
from pybuild.model.ops import NetworkMode

WAY = Connecting("module:make", ("pybuild0",), "172.17.0.1")


class OnRung(Workers):
    """Workers that say on which rung they are, and do nothing."""

    def __init__(self, rung: str) -> None:
        super().__init__()
        self._rung = rung
        self.ahead: list[tuple[Connecting, int]] = []

    async def isolation(self) -> str:
        return self._rung

    async def connect_ahead(self, way: Connecting, steps: int) -> None:
        self.ahead.append((way, steps))


class Connecter:
    """Connects, or refuses, and counts how often it is called."""

    def __init__(self, refusal: str = "") -> None:
        self.calls = 0
        self._refusal = refusal

    async def connect(self, _: JobService, __: str) -> Connecting:
        self.calls += 1
        if self._refusal:
            raise EnvironmentFault(self._refusal)
        return WAY


def network(
    mode: str, rung: str, by: Connecter, *modes: NetworkMode
) -> tuple[list[tuple[str, Connecting | None]], str]:
    """Return the networks of steps with these modes, and the build's line."""

    async def body() -> tuple[list[tuple[str, Connecting | None]], str]:
        made = DefaultNetwork(OnRung(rung), mode, by.connect)
        return [await made.of(one) for one in modes], made.line()

    return asyncio.run(body())


def test_as_root_steps_are_connected_to_what_is_made_ready_once() -> None:
    by = Connecter()
    found = network("auto", "root", by, NetworkMode.DEFAULT, NetworkMode.DEFAULT)
    assert found == ([("connected", WAY)] * 2, "")
    assert by.calls == 1


def test_who_asks_for_another_network_gets_that() -> None:
    by = Connecter()
    found = network("auto", "root", by, NetworkMode.NONE, NetworkMode.HOST)
    assert found == ([("none", None), ("host", None)], "")
    assert by.calls == 0


@pytest.mark.parametrize(
    ("rung", "why"),
    [("root", "nftables is not installed"), ("userns", "needs root, or slirp4netns")],
)
def test_where_there_is_none_they_share_this_machines_and_it_is_said(rung: str, why: str) -> None:
    by = Connecter("nftables is not installed")
    found, line = network("auto", rung, by, NetworkMode.DEFAULT, NetworkMode.DEFAULT)
    assert found == [("default", None)] * 2
    assert line.startswith("steps share this machine's network: ")
    assert why in line


@pytest.mark.parametrize("rung", ["root", "userns"])
def test_the_configuration_may_forbid_to_share_it(rung: str) -> None:
    by = Connecter("nftables is not installed")
    assert network("isolated", rung, by, NetworkMode.DEFAULT) == ([("isolated", None)], "")


def test_the_configuration_may_want_to_share_it() -> None:
    by = Connecter()
    assert network("host", "root", by, NetworkMode.DEFAULT) == ([("default", None)], "")
    assert by.calls == 0


def test_what_is_foreseen_is_made_ready_once_and_ahead() -> None:
    by = Connecter()

    async def body() -> None:
        workers = OnRung("root")
        made = DefaultNetwork(workers, "auto", by.connect)
        made.foresee(40)
        made.foresee(40)
        assert await made.of(NetworkMode.DEFAULT) == ("connected", WAY)
        assert workers.ahead == [(WAY, 40)]
        await made.close()

    asyncio.run(body())
    assert by.calls == 1


@pytest.mark.parametrize(("mode", "rung"), [("host", "root"), ("auto", "userns")])
def test_where_there_will_be_none_nothing_is_made_ahead(mode: str, rung: str) -> None:
    async def body() -> None:
        workers = OnRung(rung)
        made = DefaultNetwork(workers, mode, Connecter("never asked").connect)
        made.foresee(40)
        assert await made.of(NetworkMode.DEFAULT) == ("default", None)
        assert workers.ahead == []
        await made.close()

    asyncio.run(body())


def test_a_build_whose_steps_never_came_waits_for_nothing() -> None:
    async def body() -> None:
        begun = asyncio.Event()

        async def connect(_: JobService, __: str) -> Connecting:
            begun.set()
            await asyncio.Event().wait()
            return WAY

        made = DefaultNetwork(OnRung("root"), "auto", connect)
        await made.close()
        made.foresee(1)
        await begun.wait()
        await made.close()

    asyncio.run(body())
