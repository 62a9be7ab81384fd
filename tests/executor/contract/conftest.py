"""Each test of this folder runs on every rung that the machine offers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.executor.contract.cannot import CANNOT
from tests.executor.contract.rungs import RUNGS, Agent, Rung, RungBox, agent_on


class Agents:
    """Those that were started, for all tests of one session."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self._known: dict[str, Agent | BaseException] = {}

    def on(self, rung: Rung) -> Agent:
        if rung.name not in self._known:
            try:
                self._known[rung.name] = self.stack.enter_context(agent_on(rung))
            except pytest.skip.Exception as reason:
                self._known[rung.name] = reason
        known = self._known[rung.name]
        if isinstance(known, BaseException):
            raise known
        return known


@pytest.fixture(scope="session")
def agents() -> Iterator[Agents]:
    agents = Agents()
    with agents.stack:
        yield agents


def case(rung: Rung) -> ParameterSet:
    """A rung as a parameter: a step takes long where a program starts it, or where its tree is copied."""
    marks = [pytest.mark.slow] if rung.runtime or rung.is_jailed else []
    return pytest.param(rung, id=rung.name, marks=marks)


@pytest.fixture(params=map(case, RUNGS))
def box(request: pytest.FixtureRequest, agents: Agents) -> Iterator[RungBox]:
    reason = CANNOT.get(request.param.name, {}).get(request.function.__name__)
    if reason:
        pytest.skip(reason)
    agent = agents.on(request.param)
    directory = agent.place / "cases" / request.node.name.replace("/", "-")[:80]
    directory.mkdir(parents=True)
    box = RungBox(agent, directory)
    yield box
    try:
        shutil.rmtree(directory)
    except (OSError, RecursionError):  # trees may be deeper than it can follow
        subprocess.run(["rm", "-rf", str(directory)], check=True, timeout=60)


@pytest.fixture
def tmp_path(box: RungBox) -> Path:
    """A directory that the rung's user can read, which pytest's is not."""
    return box.directory
