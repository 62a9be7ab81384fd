"""The files of a log: they go round, and lines are cut and kept whole [CTR-75]."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.log import LogFile, bounds, names
from pybuild.containers.logreading import LogReader, details_of, read_log
from pybuild.containers.order import LOCK, LogConfig


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


def test_where_no_other_file_can_be_begun_nothing_is_written_elsewhere(
    home: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of a file that is closed is soon somebody else's."""
    log = LogFile(home, LogConfig("json-file", {"max-size": "1"}))
    log.write("stdout", b"a\n")
    opened = os.open

    def refuse(*words: object, **options: object) -> int:
        raise OSError(errno.ENFILE, "no more files")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="no more files"):
        log.write("stdout", b"lost\n")
    assert os.fstat(log.fd).st_nlink == 0
    monkeypatch.setattr(os, "open", opened)
    log.write("stdout", b"b\n")
    assert lines(tmp_path / "log.json") == ["b\n"]
    os.close(log.fd)


def reader(tmp_path: Path) -> Container:
    config = ContainerConfig(id="0" * 64, name="one", image="base", manifest="", deltas=())
    return Container(str(tmp_path), config)


def test_a_line_that_a_full_disk_cut_costs_no_other(
    home: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile(home, LogConfig())
    write = os.write
    log.write("stdout", b"a\n")

    def part(fd: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "no space")
        return write(fd, data[:-15])

    monkeypatch.setattr(os, "write", part)
    with pytest.raises(OSError, match="no space"):
        log.write("stdout", b"torn\n")
    monkeypatch.setattr(os, "write", write)
    log.write("stdout", b"b\n")
    read = read_log(reader(tmp_path), follow=False, tail=None)
    assert [line.text for line in read] == ["a\n", "b\n"]
    os.close(log.fd)


@pytest.mark.slow
def test_a_long_log_is_shown_as_it_is_read(home: int, tmp_path: Path) -> None:
    """A log may be larger than our memory."""
    log = LogFile(home, LogConfig())
    log.write("stdout", b"line\n" * 100_000)
    read = read_log(reader(tmp_path), follow=False, tail=None)
    assert next(read).text == "line\n"
    os.truncate(tmp_path / "log.json", 0)
    assert len(list(read)) < 10_000
    log.write("stdout", b"1\n2\n3\n")
    assert [line.text for line in read_log(reader(tmp_path), follow=False, tail=2)] == [
        "2\n",
        "3\n",
    ]
    os.close(log.fd)


def test_the_last_lines_of_a_log_however_many_are_meant(
    home: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than a few the log is read twice: they are not kept in memory."""
    monkeypatch.setattr("pybuild.containers.logreading.MOST_HELD", 3)
    log = LogFile(home, LogConfig())
    log.write("stdout", b"".join(b"%d\n" % number for number in range(10)))
    for tail, expected in ((0, 0), (2, 2), (4, 4), (10, 10), (10**9, 10)):
        read = list(read_log(reader(tmp_path), follow=False, tail=tail))
        assert [int(line.text) for line in read] == list(range(10))[10 - expected :]
    os.close(log.fd)


def test_a_reader_of_a_log_does_not_wait(home: int, tmp_path: Path) -> None:
    """Nothing at the moment is an empty list, and nothing ever again is None."""
    log = LogFile(home, LogConfig())
    lock = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    reading = LogReader(home, reader(tmp_path), follow=True, tail=None)
    assert reading.read() == []
    log.write("stdout", b"a\n")
    assert [line.text for line in reading.read() or []] == ["a\n"]
    log.write("stdout", b"last\n")
    os.close(lock)
    assert [line.text for line in reading.read() or []] == ["last\n"]
    assert reading.read() is None
    reading.close()
    over = LogReader(home, reader(tmp_path), follow=True, tail=0, until="2001-01-01T00:00:00Z")
    assert over.read() is None
    over.close()
    os.close(log.fd)


def test_lines_of_both_bounds_are_among_those_between_them(home: int, tmp_path: Path) -> None:
    log = LogFile(home, LogConfig())
    for number in range(4):
        log.write("stdout", b"%d\n" % number)
    times = [line.time for line in read_log(reader(tmp_path), follow=False, tail=None)]
    between = read_log(reader(tmp_path), follow=False, tail=None, since=times[1], until=times[2])
    assert {"1\n", "2\n"} <= {line.text for line in between}
    os.close(log.fd)


def test_details_are_labels_and_variables_that_the_options_name() -> None:
    log = LogConfig(options={"labels": "a,none", "env": "V,NONE"})
    labels, env = {"a": "1", "b": "2"}, ("V=x", "W=y")
    config = ContainerConfig(
        id="ab" * 32, name="n", image="i", manifest="", deltas=(), log=log, labels=labels, env=env
    )
    assert details_of(config) == "V=x,a=1"


def test_other_letters_are_written_as_they_are(home: int, tmp_path: Path) -> None:
    """Programs that read docker's files search for them."""
    log = LogFile(home, LogConfig())
    log.write("stdout", "é\n".encode())
    line = (tmp_path / names(1)[0]).read_text()
    assert '{"log":"é\\n","stream":"stdout","time":"' in line and line.endswith('Z"}\n')
