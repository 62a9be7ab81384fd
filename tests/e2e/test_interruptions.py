"""Builds that are told to end: cleanly by the first signal, whatever comes after it, at once by the third."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_FORCED = "got 3 SIGTERM/SIGINTs, forcefully exiting"


def ended(
    pybuild: Pybuild, base: str, context: Path, *numbers: signal.Signals, ignoring: str = ""
) -> tuple[int, str]:
    """Send signals to a build whose step is up; return its status and the rest that it said."""
    write(context, Dockerfile=f"FROM {base}\nRUN echo it is up; sleep 300\n")
    trap = f"trap '' {ignoring}; " if ignoring else ""
    with subprocess.Popen(
        ["sh", "-c", f'{trap}exec "$@"', "sh", *pybuild.command("build", "--no-cache", context)],
        env=pybuild.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.endswith(" it is up\n"):
                    break
            for number in numbers:
                process.send_signal(number)
            said = process.stderr.read()
            return process.wait(timeout=60), said
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_cancels_a_build(
    pybuild: Pybuild, base: str, tmp_path: Path, number: signal.Signals
) -> None:
    status, said = ended(pybuild, base, tmp_path / "c", number)
    assert status == 130
    assert "#4 CANCELED\n" in said and said.endswith("\n\nerror: context canceled\n")
    assert leftovers(pybuild.store) == []


def test_a_second_signal_changes_nothing(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    status, said = ended(pybuild, base, tmp_path / "c", signal.SIGINT, signal.SIGTERM)
    assert status == 130
    assert "#4 CANCELED\n" in said and said.endswith("\n\nerror: context canceled\n")


def test_signals_without_end_force_it(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """It may have ended by the first of them before the last came."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    status, said = ended(pybuild, base, tmp_path / "c", *numbers)
    assert status == 130
    assert said.rstrip().endswith(("error: context canceled", _FORCED))
    assert "Traceback" not in said


def test_what_nohup_ignores_stays_ignored(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    numbers = [signal.SIGHUP, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM]
    status, said = ended(pybuild, base, tmp_path / "c", *numbers, ignoring="HUP")
    assert (status, said.endswith("error: context canceled\n")) == (130, True)
