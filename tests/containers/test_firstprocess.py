"""A container's first process that is killed, or refused, while it is set up."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest

from pybuild.containers.firstprocess import FirstProcess
from pybuild.containers.loop import Loop
from pybuild.containers.order import ContainerOrder
from pybuild.containers.streams import Streams
from pybuild.executor.steps.spec import StepExit, StepSpec
from pybuild.networks.order import NetworkOrder


class Killed:
    """Processes that are forked, and killed before they have read what they are to be."""

    def __init__(self, *, at_once: bool) -> None:
        self.killed: list[int] = []
        self.channel = -1
        self._at_once = at_once

    def start_step(self, job: str, step: Any, fds: list[int], *, copied: bool, apart: bool) -> None:
        self.channel, *others = fds
        for fd in others:
            os.close(fd)
        if self._at_once:
            os.close(self.channel)

    def pid(self, job: str) -> int:
        return os.getpid()

    def leaf(self, job: str) -> None:
        return None

    def kill(self, job: str, number: int, *, exactly: bool) -> None:
        self.killed.append(number)


@pytest.fixture
def home(tmp_path: Path) -> Generator[int]:
    (tmp_path / "fs").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def first_of(
    loop: Loop, children: Killed, home: int, folder: Path, networks: NetworkOrder | None = None
) -> FirstProcess:
    step = StepSpec((), str(folder / "fs"), str(folder / "work"), ("true",))
    streams = Streams(loop, lambda number, data: None, once=False)
    return FirstProcess(
        loop,
        cast(Any, children),
        ContainerOrder("0" * 64, step, networks=networks),
        home,
        streams,
        lambda pid, warnings: pytest.fail("it has not begun"),
        lambda: None,
        lambda: None,
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_one_that_is_killed_while_it_is_set_up_ends_as_others_do(
    home: int, tmp_path: Path, at_once: bool
) -> None:
    loop = Loop()
    children = Killed(at_once=at_once)
    first = first_of(loop, children, home, tmp_path)
    first.start("container")
    if not at_once:
        os.close(children.channel)
    while loop.watched():
        loop.turn(0)
    first.note_end(StepExit(137))
    assert first.has_ended


def test_one_that_cannot_be_connected_is_not_left_waiting(home: int, tmp_path: Path) -> None:
    """A container that is started again and again would leave one with each try."""
    loop = Loop()
    children = Killed(at_once=False)
    networks = NetworkOrder(str(tmp_path / "missing"), "0" * 64, "one", "one", ())
    first = first_of(loop, children, home, tmp_path, networks)
    first.start("container")
    assert children.killed == [9]
    assert first.refusal is not None and first.refusal[0] == "fault"
    first.note_end(StepExit(137))
    assert not first.has_ended  # it may have said something before
    os.close(children.channel)
    while loop.watched():
        loop.turn(0)
    assert first.has_ended
