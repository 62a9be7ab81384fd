"""Monitors and spawners that are killed, and containers that go by themselves: others take over [MON-6, CTR-36].

Real containers, as in `test_life`.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.containers.container import Container
from pybuild.containers.lines import LocalLine
from pybuild.containers.order import RestartPolicy, StreamAttachment
from pybuild.containers.state import EXITED, RUNNING
from pybuild.executor.zygote import procstatus
from pybuild.model.border import packed
from pybuild.model.errors import UserError
from tests.containers.adoptions import hear, say
from tests.containers.busyboxes import BusyboxContainers, busybox_containers, execute, lines, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

ASKING = "echo up; read x; echo $x; exit 5"


@pytest.fixture
def containers(tmp_path: Path) -> Generator[BusyboxContainers]:
    with busybox_containers(tmp_path / "store") as made:
        yield made


def parent(pid: int) -> int:
    return procstatus.number("PPid", pid, base=10)


def monitor_of(one: Container) -> int:
    """Return the monitor of a container whose process it has started."""
    return parent(one.state().pid)


def kill(pid: int) -> None:
    """Kill a process, and return when it has gone."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    until(lambda: procstatus.exit_code(pidfd) is not None or not os.path.exists(f"/proc/{pid}"))
    os.close(pidfd)


def is_reached(one: Container) -> bool:
    """Whether the container's monitor listens."""
    line = one.connect()
    if line is None:
        return False
    line.close()
    return True


def answer(one: Container, text: bytes) -> None:
    """Type a line for a container that reads one, and hear its last words."""
    line = one.connect()
    assert line is not None
    line.settimeout(60)
    with line:
        say(line, "attach", packed(StreamAttachment(stdin=True)))
        assert hear(line) == ("attached",)
        say(line, "input", text)
        heard = [hear(line) for _ in range(3)]
        assert ("output", 1, text) in heard and heard[-1] == ("ended", 5)


def test_one_outlives_its_monitor(containers: BusyboxContainers) -> None:
    one = containers.make(ASKING, stdin=True)
    containers.start(one)
    until(lambda: lines(one) == [("stdout", "up\n")])
    first = one.state()
    kill(monitor_of(one))
    until(lambda: is_reached(one))
    assert one.state() == first and first.status == RUNNING
    assert execute(one, "true") == 0
    answer(one, b"hello\n")
    assert one.wait() == 5
    one.wait_gone()
    assert lines(one) == [("stdout", "up\n"), ("stdout", "hello\n")]


def test_one_outlives_monitor_and_spawner(containers: BusyboxContainers) -> None:
    one = containers.make("echo up; exec sleep 1000")
    containers.start(one)
    until(lambda: lines(one) == [("stdout", "up\n")])
    monitor = monitor_of(one)
    kill(parent(monitor))
    kill(monitor)
    state = one.state()  # which has another watch it
    assert state.status == RUNNING and one.is_running
    assert list(containers.start(one)) == []
    one.send("kill", 9)
    one.wait_gone()
    known = procstatus.pidfds_tell_codes()
    assert one.state().exit_code == (137 if known else 255)


@pytest.mark.slow
def test_one_whose_end_nobody_saw_has_ended(containers: BusyboxContainers) -> None:
    one = containers.make("exec sleep 1000")
    containers.start(one)
    monitor, pid = monitor_of(one), one.state().pid
    kill(parent(monitor))
    os.kill(monitor, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    kill(monitor)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    state = one.state()
    assert (state.status, state.pid) == (EXITED, 0)
    assert state.exit_code in (137, 255)


def sockets(pid: int) -> set[str]:
    folder = f"/proc/{pid}/fd"
    names = {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
    return {name for name in names if name.startswith("socket:")}


def test_a_monitor_has_nothing_of_the_spawner(containers: BusyboxContainers) -> None:
    """It would hold up commands that wait for the spawner's end, and other monitors' lines."""
    one = containers.make("exec sleep 1000")
    containers.start(one)
    monitor = monitor_of(one)
    assert sockets(parent(monitor)) and sockets(monitor)
    assert sockets(monitor) & sockets(parent(monitor)) == set()


@pytest.mark.parametrize("removes", [True, False])
def test_one_that_is_to_go_goes_when_it_has_ended(
    containers: BusyboxContainers, removes: bool
) -> None:
    one = containers.make("read x", stdin=True, auto_remove=True)
    ours, theirs = LocalLine.pair()
    ours.settimeout(60)
    with ours:
        attachment = StreamAttachment(stdin=True, waits=True, removes=removes)
        containers.start(one, attached=[(theirs, attachment)])
        theirs.close()
        say(ours, "input", b"\n")
        until(lambda: hear(ours) == ("ended", 0))
        if removes:  # it is theirs to do, as long as they are there
            assert one.state().exit_code == 0
    one.wait_gone()
    until(lambda: containers.list() == [])
    with pytest.raises(UserError, match="no such container"):
        one.state()


def test_one_that_could_not_be_started_stays(containers: BusyboxContainers) -> None:
    one = containers.make("", cmd=("/nothing",), auto_remove=True)
    with pytest.raises(Exception, match="/nothing"):
        containers.start(one)
    one.wait_gone()
    assert [known.config.id for known in containers.list()] == [one.config.id]


def test_one_that_is_started_again_and_again_can_be_stopped(containers: BusyboxContainers) -> None:
    one = containers.make("echo x >> /runs", restart=RestartPolicy("always"))
    containers.start(one)
    until(lambda: one.state().restarts >= 2)
    one.stop(9, 10.0)
    state = one.state()
    assert (state.status, state.stopped, state.pid) == (EXITED, True, 0)
    count = len(Path(one.path, "fs/runs").read_text().splitlines())
    assert 2 <= count <= state.restarts + 1  # the last one may be killed before it writes


def test_one_without_monitor_and_spawner_can_be_removed(containers: BusyboxContainers) -> None:
    one = containers.make("exec sleep 1000")
    containers.start(one)
    pid, monitor = one.state().pid, monitor_of(one)
    kill(parent(monitor))
    kill(monitor)
    pidfd = os.pidfd_open(pid)
    one.end()
    assert select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)
    assert one.state().status == EXITED
    containers.remove(one)
    assert containers.list() == []
