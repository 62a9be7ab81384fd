"""The state on disk: whole, or as it was; on a full disk an end is known all the same [MON-2, MON-7]."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.containers.state import ContainerState, read_state, save_state, write_state

RUNS = ContainerState("running", pid=1234, boot="b" * 36, started=10**18, born=99, leaf=[])  # type: ignore[arg-type]  # as JSON has it


@pytest.fixture
def home(tmp_path: Path) -> int:
    return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def test_an_end_is_written_over_the_file_where_no_other_can_be_made(
    home: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(home, RUNS)
    ended = RUNS._replace(status="exited", pid=0, exit_code=7, finished=10**18)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pybuild.containers.state.replace_file", full)
    assert save_state(home, ended)
    assert read_state(home) == ended
    assert os.listdir(tmp_path) == ["state.json"]
    assert save_state(home, ContainerState("exited"))  # a shorter one
    assert read_state(home) == ContainerState("exited", leaf=[])  # type: ignore[arg-type]
    os.unlink(tmp_path / "state.json")
    assert not save_state(home, ended)
    os.close(home)


def test_the_wish_to_stop_is_in_the_state(home: int) -> None:
    """The next monitor neither starts it again nor forgets to kill it [MON-6]."""
    wished = RUNS._replace(stopped=True, kill_at=12.5)
    write_state(home, wished)
    assert read_state(home) == wished
    os.close(home)
