"""Reads a container's log: whole, a part of it, or as it grows [CTR-75, CTR-76]."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from pybuild.cache.disk.rotatedlines import RotatedLines
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.log import bounds, moment, names
from pybuild.containers.moments import read_moment

_PAUSE_S = 0.05
_LATEST_NS = 253_402_300_799_000_000_000
"""The end of the year 9999: no date has more digits."""


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
    stopped: Callable[[], bool] = bool,
) -> Iterator[LogLine]:
    """Yield the lines; with *follow* also those to come, until the container has ended.

    Args:
        tail: only so many of those that are there; None for all.
        since, until: only those from a time on, and to a time, both written as in the log.
        stopped: says that nobody wants those to come any more.
    """
    with container.home() as home:
        lines = _lines(home, container, follow=follow, stopped=stopped)
        there: Iterable[LogLine] = iter(partial(next, lines), None)
        for known in there if tail is None else deque(there, maxlen=tail):
            if known.time >= since and not (until and known.time > until):
                yield known
        for line in lines:
            if line is not None and until and line.time > until:
                return
            if line is not None and line.time >= since:
                yield line


def _lines(
    home: int, container: Container, *, follow: bool, stopped: Callable[[], bool]
) -> Generator[LogLine | None]:
    """Yield the lines that are there, then None, then those that come."""
    files = RotatedLines(home, names(bounds(container.config.log)[1]))
    is_said = is_last = False
    try:
        while True:
            if lines := files.read():
                yield from _parsed(lines)
                continue
            if not is_said:
                is_said = True
                yield None
            if is_last or not follow or stopped():
                return
            # What it wrote before its end is still to be read.
            is_last = not container.is_running
            if not is_last:
                time.sleep(_PAUSE_S)
    finally:
        files.close()


def _parsed(lines: Iterable[bytes]) -> Iterator[LogLine]:
    """Yield lines of a log, but for those that a full disk, or a power failure, left in parts."""
    for line in lines:
        try:
            known = json.loads(line)
            yield LogLine(known["stream"], known["log"], known["time"])
        except (ValueError, KeyError, TypeError):
            continue


def details_of(config: ContainerConfig) -> str:
    """Return the labels and variables that the log's options name, as ``logs --details`` has them."""
    options = config.log.options
    env = {name: value for name, _, value in (item.partition("=") for item in config.env)}
    given = [(config.labels, options.get("labels", "")), (env, options.get("env", ""))]
    pairs = {
        name: values[name] for values, names in given for name in names.split(",") if name in values
    }
    return ",".join(f"{name}={value}" for name, value in sorted(pairs.items()))


def log_time(text: str, now: float) -> str:
    """Return a time as the log has it; "" for none.

    Raises:
        UsageError: it is none that `read_moment` knows.
    """
    known = read_moment(text, int(now * 1e9))
    return "" if known is None else moment(min(known, _LATEST_NS))
