"""A monitor that has nothing to do leaves its container to one that sleeps, and nothing is lost by it [MON-4, MON-6]."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.test_container_life import spawners
from tests.e2e.test_containers import log, monitors, run, wait_until
from tests.harness import Pybuild, leftovers

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_SCRIPT = "echo up; while ! test -e /flags/end; do sleep 0.05; done; echo end; exit 7"


@pytest.fixture
def machine(pybuild: Pybuild, base: str) -> Generator[Pybuild]:
    """A store with the image *base*, in which nothing runs afterwards."""
    assert base
    yield pybuild
    ids = pybuild("ps", "-aq", code=None).out.split()
    if ids:
        pybuild("rm", "-f", *ids)
    wait_until(lambda: not leftovers(pybuild.store))


def writes_log(pid: int) -> bool:
    """Whether a process has a container's log open, as a monitor at work has; one that has just ended counts, too."""
    try:
        return any(
            os.readlink(fd).endswith("/log.json") for fd in Path(f"/proc/{pid}/fd").iterdir()
        )
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
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: monitors(machine.store) not in ([], [pid]))
    (following,) = monitors(machine.store)
    return following


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
