"""The journal of a store: files that go round, and lines that are whole or not there [ENG-45]."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.disk import journal
from pybuild.cache.disk.journal import CONTAINER, note


def events(root: Path, name: str = "journal") -> list[Any]:
    return [json.loads(line) for line in (root / "events" / name).read_bytes().splitlines() if line]


def test_what_was_done_is_a_line_in_dockers_shape(tmp_path: Path) -> None:
    note(str(tmp_path), CONTAINER, "start", "c1", {"name": "one"})
    note(str(tmp_path), CONTAINER, "die", "c1", {})
    first, second = events(tmp_path)
    assert (first["Type"], first["Action"]) == ("container", "start")
    assert first["Actor"] == {"ID": "c1", "Attributes": {"name": "one"}}
    assert first["time"] == first["timeNano"] // 10**9
    assert second["Action"] == "die" and second["timeNano"] >= first["timeNano"]
    assert (tmp_path / "events/journal").stat().st_mode & 0o777 == 0o600


def test_attributes_of_any_size_are_left_out_and_the_event_stays(tmp_path: Path) -> None:
    note(str(tmp_path), CONTAINER, "start", "c1", {"label": "x" * 70_000})
    (event,) = events(tmp_path)
    assert event["Actor"] == {"ID": "c1", "Attributes": {}}


def test_a_full_journal_becomes_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MOST_BYTES", 400)
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(7):
        note(str(tmp_path), CONTAINER, "start", f"c{number}", {})
    ids = [event["Actor"]["ID"] for name in journal.FILES for event in events(tmp_path, name)]
    assert ids == ["c4", "c5", "c6"]
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_line_that_a_killed_writer_left_open_takes_no_other_with_it(tmp_path: Path) -> None:
    note(str(tmp_path), CONTAINER, "start", "c1", {})
    with (tmp_path / "events/journal").open("ab") as file:
        file.write(b'{"Type": "con')
    note(str(tmp_path), CONTAINER, "die", "c1", {})
    lines = (tmp_path / "events/journal").read_bytes().splitlines()
    assert len(lines) == 3 and json.loads(lines[2])["Action"] == "die"


def test_a_disk_that_is_full_takes_no_half_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(str(tmp_path), CONTAINER, "start", "c1", {})
    written = os.write

    def write(fd: int, data: bytes) -> int:
        return written(fd, data[:20])

    with monkeypatch.context() as patched:
        patched.setattr("pybuild.cache.disk.journal.os.write", write)
        note(str(tmp_path), CONTAINER, "die", "c1", {})
    note(str(tmp_path), CONTAINER, "destroy", "c1", {})
    assert [event["Action"] for event in events(tmp_path)] == ["start", "destroy"]


def test_what_was_done_counts_more_than_its_line(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(b"")  # no directory
    note(str(tmp_path), CONTAINER, "start", "c1", {})
    assert (tmp_path / "events").read_bytes() == b""
