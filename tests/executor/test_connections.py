"""Namespaces that are left to the next step."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import Connecting
from pybuild.executor.zygote.connections import StepNetworks

UNUSED = "sockets: used 0\nTCP: inuse 0 orphan 3 tw 0 alloc 9 mem 1\nUDP: inuse 0 mem 0\n"


def made(place: str) -> tuple[int, int]:
    """Stand in for a namespace: two descriptors, the second of a file that can be read."""
    return os.open("/", os.O_PATH), os.open(f"{place}/sockstat", os.O_RDONLY)


@pytest.fixture
def way(tmp_path: Path) -> Connecting:
    (tmp_path / "sockstat").write_text(UNUSED)
    return Connecting(f"{__name__}:made", (str(tmp_path),))


@pytest.fixture
def networks() -> Generator[StepNetworks]:
    made = StepNetworks()
    yield made
    made.rest()
    assert made.fds() == []


def test_a_step_that_asks_for_none_gets_none(networks: StepNetworks) -> None:
    assert networks.take(None) is None
    networks.give_back(None)


def test_one_that_is_as_new_is_left_to_the_next_step(
    networks: StepNetworks, way: Connecting
) -> None:
    first, second = networks.take(way), networks.take(way)
    assert first is not None
    assert first is not second
    networks.give_back(first)
    assert networks.fds() == [*first.fds()]
    assert networks.take(way) is first
    networks.give_back(first)
    networks.give_back(second)


@pytest.mark.parametrize(
    ("known", "left"), [("used 0", "used 1"), ("tw 0", "tw 2")], ids=["socket", "connection"]
)
def test_one_that_something_is_left_in_is_not(
    networks: StepNetworks, way: Connecting, tmp_path: Path, known: str, left: str
) -> None:
    first = networks.take(way)
    (tmp_path / "sockstat").write_text(UNUSED.replace(known, left))
    networks.give_back(first)
    assert networks.fds() == []


def test_nor_is_one_that_the_step_could_change(networks: StepNetworks, way: Connecting) -> None:
    networks.give_back(networks.take(way._replace(once=True)))
    assert networks.fds() == []


def test_one_that_leads_elsewhere_is_not_taken(
    networks: StepNetworks, way: Connecting, tmp_path: Path
) -> None:
    networks.give_back(first := networks.take(way))
    other = networks.take(way._replace(gateway="172.17.0.1"))
    assert other is not first
    networks.give_back(other)


def test_so_many_as_are_to_come_wait_for_their_steps(
    networks: StepNetworks, way: Connecting
) -> None:
    networks.make_ahead(way, 2)
    ahead = networks.fds()
    assert len(ahead) == 4
    networks.make_ahead(way, 2)
    networks.make_ahead(way, 1)
    assert networks.fds() == ahead
    first, second = networks.take(way), networks.take(way)
    assert first is not None
    assert second is not None
    assert [*first.fds(), *second.fds()] == ahead
    networks.give_back(first)
    networks.give_back(second)


def test_the_step_that_asks_for_one_hears_why_there_is_none(
    networks: StepNetworks, way: Connecting, tmp_path: Path
) -> None:
    (tmp_path / "sockstat").unlink()
    networks.make_ahead(way, 2)
    assert networks.fds() == []
    with pytest.raises(FileNotFoundError):
        networks.take(way)
