"""Processes of exec by Docker's API, which nobody is attached to [EP-30, CTR-50…52]."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.client.docker.requests import EngineRefusal, Requests
from tests.containers.busyboxes import BusyboxContainers, until
from tests.daemon.restengines import rest_engine

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]


@pytest.fixture
def engine(tmp_path: Path) -> Generator[tuple[Requests, BusyboxContainers]]:
    with rest_engine(tmp_path) as made:
        made[1].make("exec sleep 1000", "one")
        made[0].ask("POST", "/containers/one/start")
        yield made


def _made(ask: Requests, *args: str) -> str:
    id: str = ask.ask("POST", "/containers/one/exec", None, {"Cmd": list(args)})["Id"]
    return id


def test_the_process_is_told_of_as_soon_as_its_start_is_answered(
    engine: tuple[Requests, BusyboxContainers],
) -> None:
    requests = engine[0]
    id = _made(requests, "sleep", "1000")
    assert requests.ask("GET", f"/exec/{id}/json")["Pid"] == 0
    requests.ask("POST", f"/exec/{id}/start", None, {"Detach": True})
    shown = requests.ask("GET", f"/exec/{id}/json")
    assert (shown["Running"], shown["ExitCode"]) == (True, None)
    args = Path(f"/proc/{shown['Pid']}/cmdline").read_bytes()
    assert args == b"sleep\x001000\x00"
    os.kill(shown["Pid"], 9)
    until(lambda: requests.ask("GET", f"/exec/{id}/json")["ExitCode"] == 137)


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        ("nothing-like-it", 127, 'exec: "nothing-like-it": executable file not found in $PATH'),
        ("/etc", 126, 'exec: "/etc": '),
    ],
)
def test_one_that_cannot_be_executed_is_refused(
    engine: tuple[Requests, BusyboxContainers], program: str, status: int, words: str
) -> None:
    requests = engine[0]
    id = _made(requests, program)
    with pytest.raises(EngineRefusal) as caught:
        requests.ask("POST", f"/exec/{id}/start", None, {"Detach": True})
    assert caught.value.status == 400 and caught.value.message.startswith(words)
    shown = requests.ask("GET", f"/exec/{id}/json")
    assert (shown["Running"], shown["ExitCode"]) == (False, status)
    assert requests.ask("GET", "/containers/one/json")["ExecIDs"] is None
