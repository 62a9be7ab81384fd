"""Lines of files that go round, each read once [ENG-38]."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.disk.rotatedlines import RotatedLines


class Log:
    """A folder with a log that is written to, and the one before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        self.lines = RotatedLines(self.fd, ["log.1", "log"])

    def write(self, data: str) -> None:
        with (self.path / "log").open("a") as file:
            file.write(data)

    def rotate(self) -> None:
        (self.path / "log").rename(self.path / "log.1")

    def read(self) -> list[bytes]:
        return self.lines.read()


@pytest.fixture
def log(tmp_path: Path) -> Generator[Log]:
    made = Log(tmp_path)
    yield made
    made.lines.close()
    made.lines.close()  # again, for whoever has lost count
    os.close(made.fd)


def test_lines_are_read_once_and_whole(log: Log) -> None:
    assert log.read() == []
    log.write("a\nb\nhal")
    assert log.read() == [b"a", b"b"]
    assert log.read() == []
    log.write("f\n")
    assert log.read() == [b"half"]
    assert log.read() == []


def test_what_was_written_before_files_went_round_is_read_first(log: Log) -> None:
    log.write("a\n")
    assert log.read() == [b"a"]
    log.write("b\nc")
    log.rotate()
    log.write("d\n")
    assert log.read() == [b"b"]
    assert log.read() == [b"cd"]
    log.rotate()
    log.write("e\n")
    log.rotate()
    log.write("f\n")
    assert log.read() == [b"e"]  # of two rounds, the oldest that is left
    assert log.read() == [b"f"]
    assert log.read() == []


def test_the_older_file_comes_first(log: Log) -> None:
    log.write("a\n")
    log.rotate()
    log.write("b\n")
    assert log.read() == [b"a"]
    assert log.read() == [b"b"]


def test_what_is_there_is_left_out(log: Log) -> None:
    log.lines.skip()
    log.write("a\n")
    assert log.read() == [b"a"]
    log.write("b\nhal")
    assert log.read() == [b"b"]
    log.write("f\nc\n")
    log.lines.skip()
    assert log.read() == []
    log.write("d\n")
    assert log.read() == [b"d"]


def test_a_link_is_no_log(log: Log) -> None:
    (log.path / "log").symlink_to("other")
    with pytest.raises(OSError, match="symbolic links"):
        log.read()
