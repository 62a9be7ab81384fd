"""Reads a container's log: whole, its end, or as it grows."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import NamedTuple

from pybuild.containers.containers import Container
from pybuild.containers.order import LOG

_PAUSE_S = 0.05


class LogLine(NamedTuple):
    """A line of output, with its end of line if it had one.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        time: as docker writes it.
    """

    stream: str
    text: str
    time: str


def read_log(container: Container, *, follow: bool, tail: int | None) -> Iterator[LogLine]:
    """Yield the lines; with *follow* also those to come, until the container has ended.

    Args:
        tail: only so many of those that are there; None for all.
    """
    with container.home() as home:
        lines = _lines(home, container, follow=follow)
        there: deque[LogLine] = deque(maxlen=tail)
        for line in lines:
            if line is None:
                break
            there.append(line)
        yield from there
        for line in lines:
            if line is not None:
                yield line


def _lines(home: int, container: Container, *, follow: bool) -> Generator[LogLine | None]:
    """Yield the lines that are there, then None, then those that come."""
    rest = b""
    fd = -1
    try:
        is_last = False
        while True:
            if fd < 0:
                fd = _open(home)
            data = os.read(fd, 1 << 16) if fd >= 0 else b""
            *whole, rest = (rest + data).split(b"\n")
            yield from map(_parsed, whole)
            if data:
                continue
            yield None
            if is_last or not follow:
                return
            # What it wrote before its end is still to be read.
            is_last = not container.is_running
            if not is_last:
                time.sleep(_PAUSE_S)
    finally:
        if fd >= 0:
            os.close(fd)


def _open(home: int) -> int:
    try:
        return os.open(LOG, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home)
    except FileNotFoundError:
        return -1


def _parsed(line: bytes) -> LogLine:
    known = json.loads(line)
    return LogLine(known["stream"], known["log"], known["time"])
