"""Processes of other containers whose namespaces one joins: those that run, and no strangers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.disk.locks import born
from pybuild.containers.joined import JoinedProcesses
from pybuild.containers.order import ContainerOrder
from pybuild.containers.state import ContainerState, write_state
from pybuild.executor.steps.spec import StepSpec
from pybuild.executor.zygote.faults import USER, Fault

ID = "ab" * 32
ORDER = ContainerOrder("0" * 64, StepSpec((), "", "", ("true",)), boot="boot")
Running = Callable[[ContainerState], ContainerOrder]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    """Return an order in a store that has a container in a state."""

    def make(state: ContainerState) -> ContainerOrder:
        place = tmp_path / "containers" / ID
        place.mkdir(parents=True)
        home = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        write_state(home, state)
        os.close(home)
        return ORDER._replace(root=str(tmp_path))

    return make


def test_nobody_is_joined_where_none_is_named() -> None:
    with JoinedProcesses(ORDER) as joined:
        assert (joined.network, joined.ipc, joined.pids) == (-1, -1, -1)


@pytest.mark.parametrize(
    ("field", "kind"),
    [("joined", "network"), ("joined_ipc", "IPC"), ("joined_pids", "PID")],
)
def test_one_that_does_not_run_cannot_be_joined(running: Running, field: str, kind: str) -> None:
    given: dict[str, Any] = {field: ID}
    order = running(ContainerState("exited", boot="boot"))._replace(**given)
    with pytest.raises(Fault) as caught:
        JoinedProcesses(order)
    fault = caught.value
    assert fault.kind == USER
    assert str(fault) == f"cannot join {kind} of a non running container: abababababab"
    assert fault.hints == ("start it first: pybuild start abababababab",)


def test_one_that_was_removed_cannot_be_joined(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="cannot join network of a non running container"):
        JoinedProcesses(ORDER._replace(joined=ID, root=str(tmp_path)))


@pytest.mark.root
@pytest.mark.parametrize(
    ("boot", "later", "joins"), [("boot", 0, True), ("boot", 1, False), ("other", 0, False)]
)
def test_its_process_is_held_and_no_stranger_of_its_number(
    running: Running, tmp_path: Path, boot: str, later: int, joins: bool
) -> None:
    inner, outer = os.pipe()
    ready, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chroot(tmp_path)
        os.close(outer)
        os.write(said, b"x")
        os.read(inner, 1)
        os._exit(0)
    os.read(ready, 1)
    try:
        state = ContainerState("running", pid, boot, born=born(pid) + later)
        order = running(state)._replace(joined=ID, joined_ipc=ID, joined_pids=ID)
        if not joins:
            with pytest.raises(Fault, match="non running"):
                JoinedProcesses(order)
            return
        with JoinedProcesses(order) as joined:
            for fd in (joined.network, joined.ipc, joined.pids):
                assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{fd}").read_text()
        with pytest.raises(OSError):
            os.fstat(joined.pids)
    finally:
        for fd in (inner, outer, ready, said):
            os.close(fd)
        os.waitpid(pid, 0)
