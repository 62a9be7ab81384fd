"""Reads a container's log: whole, a part of it, or as it grows [CTR-75, CTR-76]."""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import NamedTuple

from pybuild.containers.container import Container
from pybuild.containers.log import bounds, moment, names
from pybuild.frontend.syntax.healthchecks import parse_duration as duration_ns
from pybuild.model.errors import UsageError, UserError

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


def read_log(
    container: Container,
    *,
    follow: bool,
    tail: int | None,
    since: str = "",
    until: str = "",
) -> Iterator[LogLine]:
    """Yield the lines; with *follow* also those to come, until the container has ended.

    Args:
        tail: only so many of those that are there; None for all.
        since, until: only those from a time on, and to a time, both written as in the log.
    """
    with container.home() as home:
        lines = _lines(home, container, follow=follow)
        there: Iterable[LogLine] = iter(partial(next, lines), None)
        for known in there if tail is None else deque(there, maxlen=tail):
            if known.time >= since and not (until and known.time > until):
                yield known
        for line in lines:
            if line is not None and until and line.time > until:
                return
            if line is not None and line.time >= since:
                yield line


def _lines(home: int, container: Container, *, follow: bool) -> Generator[LogLine | None]:
    """Yield the lines that are there, then None, then those that come."""
    files = names(bounds(container.config.log)[1])
    rest = b""
    fd = -1
    is_said = is_last = False
    try:
        fd = _next(home, files, -1)
        while True:
            data = os.read(fd, 1 << 16) if fd >= 0 else b""
            *whole, rest = (rest + data).split(b"\n")
            yield from _parsed(whole)
            if data:
                continue
            newer = _next(home, files, fd)
            if newer >= 0:
                # It is written to no more, but may have been after we had read its end.
                rest = yield from _remaining(fd, rest)
                if fd >= 0:
                    os.close(fd)
                fd = newer
                continue
            if not is_said:
                is_said = True
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


def _remaining(fd: int, rest: bytes) -> Generator[LogLine, None, bytes]:
    """Yield the lines to the end of a file; return what has none."""
    while data := os.read(fd, 1 << 16) if fd >= 0 else b"":
        *whole, rest = (rest + data).split(b"\n")
        yield from _parsed(whole)
    return rest


def _next(home: int, files: list[str], fd: int) -> int:
    """Return the file after *fd*, open, the oldest for -1; -1: there is none."""
    identity = _identity(os.fstat(fd)) if fd >= 0 else None
    while True:
        found = [(name, one) for name in files if (one := _look(home, name)) is not None]
        known = [one for _, one in found]
        at = known.index(identity) + 1 if identity in known else 0
        if at >= len(found):
            return -1
        name, wanted = found[at]
        try:
            newer = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home)
        except FileNotFoundError:
            continue
        if _identity(os.fstat(newer)) == wanted:
            return newer
        os.close(newer)  # the files went round meanwhile


def _look(home: int, name: str) -> tuple[int, int] | None:
    try:
        return _identity(os.stat(name, dir_fd=home, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _parsed(lines: Iterable[bytes]) -> Iterator[LogLine]:
    """Yield lines of a log, but for those that a full disk, or a power failure, left in parts."""
    for line in lines:
        try:
            known = json.loads(line)
            yield LogLine(known["stream"], known["log"], known["time"])
        except (ValueError, KeyError, TypeError):
            continue


def log_time(text: str, now: float) -> str:
    """Return a time as the log has it: RFC 3339, seconds since the epoch, or so long ago; "" for none.

    Raises:
        UsageError: it is none of them.
    """
    if not text or text == "0":
        return ""
    try:
        if re.fullmatch(r"\d+(\.\d{1,9})?", text):
            seconds, _, rest = text.partition(".")
            return moment(int(seconds) * 1_000_000_000 + int(f"{rest:0<9}"))
        if re.match(r"\d{4}-", text):
            given = datetime.fromisoformat(text)
            given = given if given.tzinfo else given.astimezone()
            return moment(int(given.timestamp() * 1_000_000) * 1000)
        return moment(int(now * 1e9) - duration_ns(text))
    except (ValueError, OverflowError, UserError) as error:
        raise UsageError(
            f'invalid time "{text}": expected 2026-01-31T12:00:00, 1700000000 or 10m'
        ) from error
