"""One container from its start to its removal, by the functions that commands call [CTR-60, MON-1, ENG-34].

What monitors and spawners do happens in processes of theirs, so these few tests of real containers are
quick ones, though each takes some tenths of a second: nothing else tells a whole room's mistakes.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.containers.attaching import Attached
from pybuild.containers.consumption import consumption
from pybuild.containers.events import EventStream
from pybuild.containers.lines import LocalLine
from pybuild.containers.order import HealthCheck, RestartPolicy, StreamAttachment
from pybuild.containers.starting import NotExecuted
from pybuild.containers.state import CREATED, EXITED, PAUSED, RUNNING
from pybuild.model.border import packed
from pybuild.model.errors import UserError
from tests.containers.busyboxes import BusyboxContainers, busybox_containers, execute, lines, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]


@pytest.fixture
def containers(tmp_path: Path) -> Generator[BusyboxContainers]:
    with busybox_containers(tmp_path / "store") as made:
        yield made


def test_one_runs_says_something_ends_and_goes(containers: BusyboxContainers) -> None:
    one = containers.make("echo out $A $(hostname); echo err >&2; echo x > /made; exit 7")
    assert one.state().status == CREATED
    assert list(containers.start(one)) == []
    assert one.wait() == 7
    one.wait_gone()
    assert sorted(lines(one)) == [("stderr", "err\n"), ("stdout", "out b here\n")]
    state = one.state()
    assert (state.status, state.exit_code, state.oom_killed) == (EXITED, 7, False)
    assert Path(one.path, "fs/made").read_text() == "x\n"
    assert not one.is_running and one.connect() is None
    with pytest.raises(UserError, match="container one is not running"):
        one.ask("update", packed(one.config.limits), None)
    containers.start(one)  # once more, with what it has written
    assert one.wait() == 7
    containers.remove(one)
    assert containers.list() == []
    with pytest.raises(UserError, match="no such container"):
        containers.find("one")


def test_commands_are_executed_beside_it_until_it_is_stopped(
    containers: BusyboxContainers, capfd: pytest.CaptureFixture[str]
) -> None:
    one = containers.make("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done")
    containers.start(one)
    until(lambda: lines(one) == [("stdout", "up\n")])
    assert one.state().status == RUNNING and one.is_running
    assert execute(one, "sh", "-c", "echo $A; echo e >&2; pwd; exit 5") == 5
    assert capfd.readouterr() == ("b\n/\n", "e\n")
    assert execute(one, "id", "-u", user="1000", cwd="/etc") == 0
    assert capfd.readouterr().out == "1000\n"
    with pytest.raises(NotExecuted) as caught:
        execute(one, "nothing-such")
    assert caught.value.status == 127
    with pytest.raises(UserError, match="is running"):
        containers.remove(one)
    used = consumption(one.state(), one.config)
    assert used.pids >= 1 and used.used_memory > 0
    one.stop(int(signal.SIGTERM), 60.0)
    assert (one.state().status, one.state().exit_code) == (EXITED, 3)


def test_one_is_followed_from_its_first_byte_and_killed(
    containers: BusyboxContainers, capfd: pytest.CaptureFixture[str]
) -> None:
    one = containers.make("echo first; exec sleep 1000", attached=True)
    ours, theirs = LocalLine.pair()
    with ours, theirs:
        attachment = StreamAttachment(stdout=True, stderr=True, waits=True)
        containers.start(one, attached=[(theirs, attachment)])
        theirs.close()
        until(lambda: lines(one) == [("stdout", "first\n")])
        one.send("signal", int(signal.SIGKILL))
        attached = Attached(ours, stdin=False, terminal=False, keys=None)
        assert attached.follow() == 137
    assert capfd.readouterr().out == "first\n"
    assert one.state().exit_code == 137


def test_one_is_started_again_as_its_policy_says(containers: BusyboxContainers) -> None:
    policy = RestartPolicy("on-failure", 1)
    one = containers.make("echo x >> /runs; exit 1", restart=policy)
    containers.start(one)
    until(lambda: one.state().restarts == 1 and one.state().status == EXITED)
    one.wait_gone()
    assert Path(one.path, "fs/runs").read_text() == "x\nx\n"


def test_one_is_paused_and_looked_after(containers: BusyboxContainers) -> None:
    check = HealthCheck(("CMD-SHELL", "echo well"), interval=10**7, timeout=10**10, retries=1)
    one = containers.make("exec sleep 1000", health=check, shell=("/bin/sh", "-c"))
    containers.start(one)
    until(lambda: one.health_status() == "healthy")
    health = one.health()
    assert health is not None and health["FailingStreak"] == 0
    assert health["Log"][-1]["Output"] == "well\n" and health["Log"][-1]["ExitCode"] == 0
    one.ask("pause")
    assert one.state().status == PAUSED
    with pytest.raises(UserError, match="container one is paused"):
        containers.start(one)
    one.ask("unpause")
    assert one.state().status == RUNNING


def test_a_health_is_told_from_the_moment_that_it_runs(containers: BusyboxContainers) -> None:
    """Compose takes one that has none after its start for a container without a check [CTR-37]."""
    check = HealthCheck(test=("CMD", "true"), interval=10**12)
    for number in range(10):
        one = containers.make("exec sleep 1000", name=f"one{number}", health=check)
        containers.start(one)
        assert one.health_status() == "starting"


def test_one_without_a_program_does_not_begin(containers: BusyboxContainers) -> None:
    one = containers.make("", cmd=("/nothing",))
    with pytest.raises(NotExecuted, match="/nothing") as caught:
        containers.start(one)
    assert caught.value.status == 127
    assert one.state().exit_code == 127


def test_one_that_is_removed_by_force_is_killed_and_not_stopped(
    containers: BusyboxContainers,
) -> None:  # [ENG-45], as dockerd tells of it
    one = containers.make("exec sleep 1000")
    containers.start(one)
    containers.remove(one, force=True)
    stream = EventStream(containers.root, since=0)
    told = [event["Action"] for event in stream.read() or ()]
    stream.close()
    assert told == ["create", "start", "kill", "die", "destroy"]


def test_one_without_a_network_has_a_loopback_device_alone(containers: BusyboxContainers) -> None:
    one = containers.make("cat /proc/net/dev")
    containers.start(one)
    assert one.wait() == 0
    one.wait_gone()
    devices = [text.partition(":")[0].strip() for _, text in lines(one) if ":" in text]
    assert devices == ["lo"]
