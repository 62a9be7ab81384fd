"""Lines of the journal about one container, as its monitor writes them [ENG-46, ENG-47]."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers.actions import Actions, note
from pybuild.containers.order import CONFIG

ID = "ab" * 32
RECORD: dict[str, Any] = {
    "id": ID,
    "name": "web",
    "image": "app",
    "labels": {"a": "b"},
    "mounts": [
        {"kind": "volume", "source": "data", "target": "/data", "readonly": False},
        {"kind": "bind", "source": "/etc", "target": "/etc", "readonly": True},
        {"kind": "volume", "source": "more", "target": "/more", "readonly": True},
    ],
}
ABOUT = {"a": "b", "image": "app", "name": "web"}


@pytest.fixture
def home(tmp_path: Path) -> Generator[int]:
    (tmp_path / "home").mkdir()
    fd = os.open(tmp_path / "home", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def actions(root: Path, home: int, record: dict[str, Any] | None = None) -> Actions:
    (root / "home" / CONFIG).write_text(json.dumps(RECORD if record is None else record))
    return Actions(str(root), home)


def noted(root: Path) -> list[tuple[str, str, str, dict[str, str]]]:
    path = root / "events" / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        (line["Type"], line["Action"], line["Actor"]["ID"], line["Actor"]["Attributes"])
        for line in map(json.loads, lines)
    ]


def test_an_action_has_the_containers_words(tmp_path: Path, home: int) -> None:
    known = actions(tmp_path, home)
    known.note("pause")
    known.note("exec_die", {"exitCode": "3", "name": "other"})
    assert noted(tmp_path) == [
        ("container", "pause", ID, ABOUT),
        ("container", "exec_die", ID, {**ABOUT, "exitCode": "3", "name": "other"}),
    ]


def test_it_is_called_as_it_is_now(tmp_path: Path, home: int) -> None:
    known = actions(tmp_path, home)
    (tmp_path / "home" / CONFIG).write_text(json.dumps({**RECORD, "name": "renamed"}))
    known.note("pause")
    assert noted(tmp_path)[0][3]["name"] == "renamed"


def test_a_start_mounts_its_volumes(tmp_path: Path, home: int) -> None:
    actions(tmp_path, home).note_start()
    common = {"propagation": "", "driver": "local", "container": ID}
    assert noted(tmp_path) == [
        ("volume", "mount", "data", {"destination": "/data", **common, "read/write": "true"}),
        ("volume", "mount", "more", {"destination": "/more", **common, "read/write": "false"}),
        ("container", "start", ID, ABOUT),
    ]


@pytest.mark.parametrize("oom_killed", [False, True])
@pytest.mark.parametrize("stopped", [False, True])
def test_an_end_says_how_long_and_unmounts(
    tmp_path: Path, home: int, oom_killed: bool, stopped: bool
) -> None:
    actions(tmp_path, home).note_end(7, 2.9, oom_killed=oom_killed, stopped=stopped)
    volume = {"container": ID, "driver": "local"}
    assert noted(tmp_path) == [
        *([("container", "oom", ID, ABOUT)] if oom_killed else []),
        ("container", "die", ID, {**ABOUT, "exitCode": "7", "execDuration": "2"}),
        ("volume", "unmount", "data", volume),
        ("volume", "unmount", "more", volume),
        *([("container", "stop", ID, ABOUT)] if stopped else []),
    ]


def test_one_without_mounts_has_no_volumes(tmp_path: Path, home: int) -> None:
    record = {key: value for key, value in RECORD.items() if key != "mounts"}
    known = actions(tmp_path, home, record)
    known.note_start()
    known.note_end(0, 0, oom_killed=False, stopped=False)
    assert [line[1] for line in noted(tmp_path)] == ["start", "die"]


@pytest.mark.parametrize("text", ["", "{", None])
def test_of_one_that_was_removed_there_is_nothing_to_say(
    tmp_path: Path, home: int, text: str | None
) -> None:
    known = actions(tmp_path, home)
    if text is None:
        (tmp_path / "home" / CONFIG).unlink()
    else:
        (tmp_path / "home" / CONFIG).write_text(text)
    known.note("pause")
    known.note_start()
    known.note_end(0, 0, oom_killed=True, stopped=True)
    note(str(tmp_path), {}, "pause")
    assert noted(tmp_path) == []
