"""Output that a monitor has read and not written when it is killed is in the log once, whole [MON-6]."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers.log import LogFile, names
from pybuild.containers.order import LogConfig

_CALLS = ("splice", "pread", "pwrite", "write", "ftruncate", "rename", "unlink")


class Pipes:
    """The pipes of a container that runs; who reads them comes and goes."""

    def __init__(self) -> None:
        self.ends = [os.pipe() for _ in range(2)]
        for reading, _ in self.ends:
            os.set_blocking(reading, False)

    def say(self, number: int, data: bytes) -> None:
        os.write(self.ends[number - 1][1], data)

    def log(self, log: LogFile) -> None:
        """Do what a monitor does as long as there is something."""
        for number in (1, 2):
            try:
                data = log.take(number, self.ends[number - 1][0])
            except BlockingIOError:
                continue
            log.write(("stdout", "stderr")[number - 1], data)

    def close(self) -> None:
        for pair in self.ends:
            for fd in pair:
                os.close(fd)


def logged(place: Path, count: int = 1) -> list[str]:
    files = [place / name for name in names(count) if (place / name).exists()]
    return [json.loads(line)["log"] for one in files for line in one.read_text().splitlines()]


def killed_at(number: int, work: Callable[[], None], *, after: bool) -> bool:
    """Do something in a process that dies at its call of this number; tell whether it came to that."""
    child = os.fork()
    if child == 0:
        left = [number]

        def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*words: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] == 0 and not after:
                    os._exit(1)
                try:
                    return call(*words, **options)
                finally:
                    if left[0] == 0:
                        os._exit(1)

            return counted

        try:
            for name in _CALLS:
                setattr(os, name, wrapped(getattr(os, name)))
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("options", [{}, {"max-size": "150", "max-file": "9"}])
@pytest.mark.parametrize("most", [1 << 20, 80])
def test_a_kill_at_any_call_loses_no_line_and_doubles_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    most: int,
    *,
    after: bool,
) -> None:
    monkeypatch.setattr("pybuild.containers.unlogged.MOST_BYTES", most)
    number = 0
    while True:
        number += 1
        place = tmp_path / str(number)
        place.mkdir()
        home = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        pipes, config = Pipes(), LogConfig("json-file", options)

        def monitor(home: int = home, pipes: Pipes = pipes, config: LogConfig = config) -> None:
            log = LogFile(home, config)
            for turn in range(3):
                pipes.log(log)
                pipes.say(1, f"more {turn}\nbegun".encode())
                pipes.log(log)

        pipes.say(1, b"same\nsame\nopen")
        pipes.say(2, b"error\n")
        came = killed_at(number, monitor, after=after)
        log = LogFile(home, config)
        pipes.say(1, b" end\n")
        pipes.log(log)
        log.end()
        os.close(log.fd)
        os.close(home)
        pipes.close()
        said = "same\nsame\nopen" + "".join(f"more {turn}\nbegun" for turn in range(3)) + " end\n"
        lines = logged(place, 9)
        assert lines.count("error\n") == 1
        text = "".join(line for line in lines if line != "error\n")
        if came:  # what it never came to say is not missing
            begins = [said[: said.index(f"more {turn}")] for turn in range(3)]
            assert text in {*(begin + " end\n" for begin in begins), said}, (number, text)
        else:
            assert text == said
            break
    assert number > 20
    assert sorted(path.name for path in place.iterdir() if "std" in path.name) == []


def test_lines_that_are_cut_in_the_middle_are_written_anew(tmp_path: Path) -> None:
    """A kill may end a long write to the disk before all of it is there."""
    home = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pipes = Pipes()
    log = LogFile(home, LogConfig())
    pipes.say(1, b"a\nb\nc\n")
    pipes.log(log)
    os.truncate(tmp_path / "log.json", (tmp_path / "log.json").stat().st_size - 5)
    again = LogFile(home, LogConfig())
    assert logged(tmp_path) == ["a\n", "b\n", "c\n"]
    for one in (log, again):
        for fd in one.descriptors():
            if fd >= 0:
                os.close(fd)
    pipes.close()
    os.close(home)


def test_the_file_does_not_grow_with_the_log(tmp_path: Path) -> None:
    home = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pipes, log = Pipes(), LogFile(home, LogConfig())
    for _ in range(100):
        pipes.say(1, b"x" * 4095 + b"\n")
        pipes.log(log)
    assert len(logged(tmp_path)) == 100
    assert (tmp_path / "log.json.stdout").stat().st_size < 200_000
    log.end()
    assert not (tmp_path / "log.json.stdout").exists()
    os.close(log.fd)
    pipes.close()
    os.close(home)


def test_output_that_never_pauses_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece ends in the middle of a line; the log goes round."""
    monkeypatch.setattr("pybuild.containers.unlogged.MOST_BYTES", 5000)
    home = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pipes, log = Pipes(), LogFile(home, LogConfig())
    pipes.say(1, b"begun")
    for _ in range(100):
        pipes.log(log)
        pipes.say(1, b" here\n" + b"x" * 1000 + b"\nbegun")
        assert sum(one.stat().st_size for one in tmp_path.glob("log.json.*")) < 8000
    for fd in log.descriptors():
        if fd >= 0:
            os.close(fd)
    again = LogFile(home, LogConfig())
    pipes.log(again)
    again.end()
    assert "".join(logged(tmp_path)) == "begun" + (" here\n" + "x" * 1000 + "\nbegun") * 100
    os.close(again.fd)
    pipes.close()
    os.close(home)


def test_where_the_disk_is_full_output_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container goes on; and later all is kept again."""
    home = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pipes, log = Pipes(), LogFile(home, LogConfig())

    def full(*words: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "splice", full)
        pipes.say(1, b"first\nbegun")
        pipes.log(log)
    pipes.say(1, b" here\nsecond\n")
    pipes.log(log)
    os.close(log.fd)
    again = LogFile(home, LogConfig())
    assert logged(tmp_path) == ["first\n", "begun here\n", "second\n"]
    for fd in (*log.descriptors()[1:], *again.descriptors()):
        if fd >= 0:
            os.close(fd)
    pipes.close()
    os.close(home)
