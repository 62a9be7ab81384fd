"""A monitor that has nothing to do leaves its container to one that sleeps, and nothing is lost by it [MON-4, MON-6]."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from tests.e2e.test_container_life import spawners
from tests.e2e.test_containers import log, monitors, run, wait_until
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_RECEIVE = ("45", "207")  # recvfrom(2), on x86 and on others
_SCRIPT = "echo up; while ! test -e /flags/end; do sleep 0.05; done; echo end; exit 7"


def writes_log(pid: int) -> bool:
    """Whether a process has a container's log open, as a monitor at work has; one that has just ended counts, too."""
    try:
        names = [os.readlink(fd).rpartition("/")[2] for fd in Path(f"/proc/{pid}/fd").iterdir()]
        return "log.json" in names or "lock" not in names
    except OSError:
        return True


def asleep(machine: Pybuild, before: int = 0) -> int:
    """Return the monitor that sleeps for the one container, when there is one that is not *before*."""
    found: list[int] = []

    def is_asleep() -> bool:
        found[:] = [pid for pid in monitors(machine.store) if pid != before]
        return len(found) == 1 and not writes_log(found[0])

    wait_until(is_asleep)
    return found[0]


def killed_and_followed(machine: Pybuild, pid: int) -> int:
    """Return the only monitor there is after *pid* was killed; what it forks has its lock for a moment, too."""
    os.kill(pid, signal.SIGKILL)
    found: list[int] = []

    def is_followed() -> bool:
        found[:] = monitors(machine.store)
        return len(found) == 1 and found != [pid]

    wait_until(is_followed)
    return found[0]


def spawner_of(machine: Pybuild) -> int:
    (pid,) = spawners(machine.store)
    return pid


def asks_to_sleep(pid: int) -> bool:
    """Whether a monitor waits for the answer of the spawner, as it does nowhere else; or has ended."""
    try:
        number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    except OSError:
        return True
    return number in _RECEIVE


def saved(machine: Pybuild) -> dict[str, object]:
    """Return the state in the one container's file, which no command has looked after."""
    (path,) = (machine.store / "containers").glob("*/state.json")
    known: dict[str, object] = json.loads(path.read_text())
    return known


@pytest.mark.parametrize("killed", ["", "asleep", "twice", "spawner"])
def test_one_sleeps_and_the_container_ends_as_it_does(
    machine: Pybuild, tmp_path: Path, killed: str
) -> None:
    """The status of a container is known whichever process is killed: the kernel tells it by its pidfd."""
    flags = tmp_path / "flags"
    flags.mkdir()
    run(machine, _SCRIPT, "--name", "one", "-v", f"{flags}:/flags")
    pid = asleep(machine)
    assert machine("exec", "one", "echo", "here").out == "here\n"
    pid = asleep(machine, pid)
    if killed == "spawner":
        for one in spawners(machine.store):
            os.kill(one, signal.SIGKILL)
        wait_until(lambda: not spawners(machine.store))
    elif killed:
        for _ in range(2 if killed == "twice" else 1):
            pid = killed_and_followed(machine, pid)
    (flags / "end").touch()
    assert machine("wait", "one").out == "7\n"
    assert log(machine, "one") == "up\nend\n"
    assert machine("ps", "-aq", "-f", "exited=7").out


def test_one_that_sleeps_is_woken_by_output_and_input(machine: Pybuild, tmp_path: Path) -> None:
    """A terminal's and a pipe's other end pass from one to the next; a line is written as it comes [MON-5]."""
    flags = tmp_path / "flags"
    flags.mkdir()
    script = "echo -n a; while ! test -e /flags/go; do sleep 0.05; done; echo b; read x; echo $x"
    run(machine, script, "--name", "one", "-i", "-v", f"{flags}:/flags")
    asleep(machine)
    (flags / "go").touch()
    wait_until(lambda: log(machine, "one") == "ab\n")
    asleep(machine)
    assert machine("attach", "--sig-proxy=false", "one", stdin=b"typed\n").out == "typed\n"
    assert log(machine, "one") == "ab\ntyped\n"


def test_one_that_sleeps_starts_its_container_again(machine: Pybuild) -> None:
    """As its policy says; what ended it is known [CTR-33]."""
    run(machine, "exec sleep 1000", "--name", "one", "--restart", "always", "--network", "none")
    asleep(machine)
    first = machine("inspect", "-f", "{{.State.Pid}}", "one").out
    os.kill(int(first), signal.SIGKILL)
    wait_until(lambda: machine("inspect", "-f", "{{.RestartCount}}", "one").out == "1\n")
    wait_until(lambda: machine("inspect", "-f", "{{.State.Running}}", "one").out == "true\n")
    asleep(machine)
    machine("stop", "-t", "0", "one")
    assert machine("inspect", "-f", "{{.State.ExitCode}}", "one").out == "137\n"


@pytest.mark.parametrize("killed", ["monitor", "spawner"])
def test_none_is_left_alone_between_one_and_the_next(
    machine: Pybuild, tmp_path: Path, killed: str
) -> None:
    """A monitor ends when the one that sleeps is there, not before: no command has to find its container [MON-4, MON-6]."""
    flags = tmp_path / "flags"
    flags.mkdir()
    run(machine, _SCRIPT, "--name", "one", "-v", f"{flags}:/flags")
    spawner = spawner_of(machine)
    (pid,) = monitors(machine.store)
    os.kill(spawner, signal.SIGSTOP)
    wait_until(lambda: asks_to_sleep(pid))
    os.kill(pid if killed == "monitor" else spawner, signal.SIGKILL)
    os.kill(spawner, signal.SIGCONT)
    if killed == "monitor":
        asleep(machine, pid)
    (flags / "end").touch()
    wait_until(lambda: (saved(machine)["status"], saved(machine)["exit_code"]) == ("exited", 7))
    assert log(machine, "one") == "up\nend\n"


def test_another_is_tried_for_until_there_can_be_one(machine: Pybuild, tmp_path: Path) -> None:
    """A machine that is short of something for a while costs no container its monitor [MON-6]."""
    flags = tmp_path / "flags"
    flags.mkdir()
    run(machine, _SCRIPT, "--name", "one", "-v", f"{flags}:/flags")
    pid = asleep(machine)
    spawner = spawner_of(machine)
    opened = {int(fd.name) for fd in Path(f"/proc/{spawner}/fd").iterdir()}
    least = min(set(range(len(opened) + 1)) - opened)  # it closes two, and needs three for another
    usual = resource.prlimit(spawner, resource.RLIMIT_NOFILE)
    resource.prlimit(spawner, resource.RLIMIT_NOFILE, (least, usual[1]))
    os.kill(pid, signal.SIGKILL)
    written = machine.store / "containers" / "spawner.log"
    wait_until(lambda: "has no monitor" in written.read_text())
    assert "too many open files" in written.read_text()
    assert monitors(machine.store) == []
    resource.prlimit(spawner, resource.RLIMIT_NOFILE, usual)
    asleep(machine, pid)
    (flags / "end").touch()
    wait_until(lambda: (saved(machine)["status"], saved(machine)["exit_code"]) == ("exited", 7))
    assert log(machine, "one") == "up\nend\n"


def test_one_that_waits_to_start_its_container_again_is_followed(machine: Pybuild) -> None:
    """Between two runs there is no process to be looked after, and the policy holds [CTR-33, MON-6]."""
    run(machine, "echo run; exit 3", "--name", "one", "--restart", "always")
    wait_until(lambda: log(machine, "one").count("run") > 3)

    def is_killed_between_runs() -> bool:
        found = monitors(machine.store)
        if len(found) != 1:
            return False
        os.kill(found[0], signal.SIGSTOP)
        is_between = saved(machine)["status"] == "restarting"
        os.kill(found[0], signal.SIGKILL if is_between else signal.SIGCONT)
        return is_between

    wait_until(is_killed_between_runs)
    before = saved(machine)["restarts"]
    assert isinstance(before, int)
    wait_until(lambda: int(str(saved(machine)["restarts"])) > before + 1)
    machine("stop", "one")
    assert saved(machine)["status"] == "exited"
