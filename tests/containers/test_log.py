"""The files of a log: they go round, and lines are cut and kept whole [CTR-75]."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.containers.log import LogFile, bounds, names
from pybuild.containers.order import LogConfig


@pytest.fixture
def home(tmp_path: Path) -> Generator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def lines(path: Path) -> list[str]:
    return [json.loads(line)["log"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("config", "result"),
    [
        (LogConfig(), (0, 1)),
        (LogConfig("json-file", {"max-size": "10k"}), (10 << 10, 1)),
        (LogConfig("json-file", {"max-size": "1.5mb", "max-file": "3"}), (3 << 19, 3)),
        (LogConfig("local"), (20 << 20, 5)),
        (LogConfig("local", {"max-file": "2"}), (20 << 20, 2)),
    ],
)
def test_bounds(config: LogConfig, result: tuple[int, int]) -> None:
    assert bounds(config) == result


def test_files_go_round(home: int, tmp_path: Path) -> None:
    log = LogFile(home, LogConfig("json-file", {"max-size": "1", "max-file": "3"}))
    for number in range(5):
        log.write("stdout", f"{number}\n".encode())
    assert [lines(tmp_path / name) for name in names(3)] == [["2\n"], ["3\n"], ["4\n"]]
    os.close(log.fd)


def test_one_file_begins_anew(home: int, tmp_path: Path) -> None:
    log = LogFile(home, LogConfig("json-file", {"max-size": "1"}))
    log.write("stdout", b"a\n")
    log.write("stdout", b"b\n")
    assert os.listdir(tmp_path) == ["log.json"]
    assert lines(tmp_path / "log.json") == ["b\n"]
    os.close(log.fd)


def test_what_has_no_end_of_line_waits_for_it(home: int, tmp_path: Path) -> None:
    log = LogFile(home, LogConfig())
    log.write("stdout", b"a")
    log.write("stderr", b"e\n")
    assert lines(tmp_path / "log.json") == ["e\n"]
    log.write("stdout", b"b\nc")
    log.end()
    assert lines(tmp_path / "log.json") == ["e\n", "ab\n", "c"]
    os.close(log.fd)


def test_no_driver_writes_nothing(home: int, tmp_path: Path) -> None:
    log = LogFile(home, LogConfig("none"))
    log.write("stdout", b"a\n")
    log.end()
    assert os.listdir(tmp_path) == []
