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
