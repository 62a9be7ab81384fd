"""`pybuild run` and signals: the process gets them, and its status is ours [RUN-21]."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.harness import Pybuild
from tests.needs import needs

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, needs("nft")]
_WAITS = "echo up; while :; do sleep 0.05; done"


# A time for the process to end that never comes to its end.
_PATIENT = "from pybuild.commands import runcontainer; runcontainer.STOP_SECONDS = 3600; import pybuild.__main__"


def run(
    pybuild: Pybuild, base: str, script: str, *numbers: signal.Signals, code: str = ""
) -> tuple[int, str]:
    """Return the status and the output of a script that is up, and answers each signal but the last.

    Two signals of a kind that wait for their process are one.
    """
    command = pybuild.command("run", base, "sh", "-c", script)
    if code:
        command[command.index("-m") : command.index("run")] = ["-c", code]
    with subprocess.Popen(
        command,
        env=pybuild.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        said = ""
        process.send_signal(numbers[0])
        for number in numbers[1:]:
            said += process.stdout.readline()
            process.send_signal(number)
        return process.wait(timeout=60), said + process.stdout.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_process_that_catches_a_signal_ends_as_it_likes(
    pybuild: Pybuild, base: str, number: signal.Signals
) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'sleep 1; echo {name}; exit 5' {name}; {_WAITS}"
    assert run(pybuild, base, script, number) == (5, f"{name}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_does_not_catch_it_is_ended(
    pybuild: Pybuild, base: str, number: signal.Signals
) -> None:
    """As the first of its namespace the kernel would not give it to it."""
    assert run(pybuild, base, _WAITS, number) == (128 + number, "")


def test_being_told_twice_ends_what_will_not(pybuild: Pybuild, base: str) -> None:
    script = f"trap 'echo no' INT TERM; {_WAITS}"
    status, said = run(pybuild, base, script, signal.SIGINT, signal.SIGINT, code=_PATIENT)
    assert status == 128 + signal.SIGINT
    assert said.startswith("no\n")


def test_a_reload_is_not_an_end(pybuild: Pybuild, base: str) -> None:
    script = f"trap 'echo again' HUP; trap 'exit 3' TERM; {_WAITS}"
    assert run(pybuild, base, script, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM) == (
        3,
        "again\nagain\n",
    )
