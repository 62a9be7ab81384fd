"""Reads a container's log: whole, a part of it, or as it grows [CTR-75, CTR-76]."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pybuild.cache.disk.rotatedlines import RotatedLines
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.log import bounds, moment, names
from pybuild.containers.moments import read_moment

_PAUSE_S = 0.05
MOST_HELD = 10_000
"""The most lines that are kept to find the last ones: of more the log is read twice."""
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


class LogReader:
    """The lines of a log: those that are there and, with *follow*, those to come until the container has ended.

    Args:
        home: the container's directory, open as long as this reader is used.
        tail: only so many of those that are there; None for all.
        since, until: only those from a time on, and to a time, both written as in the log.
    """

    def __init__(
        self,
        home: int,
        container: Container,
        *,
        follow: bool,
        tail: int | None,
        since: str = "",
        until: str = "",
    ) -> None:
        self._container = container
        self._names = names(bounds(container.config.log)[1])
        self._home = home
        self._files = RotatedLines(home, self._names)
        self._follow = follow
        self._tail = tail
        self._since, self._until = since, until
        self._is_last = False

    def close(self) -> None:
        self._files.close()

    def read(self) -> list[LogLine] | None:
        """Return some lines; none: there are no more at the moment; None: there will be no more."""
        if self._tail is not None:
            count, self._tail = self._tail, None
            if known := self._chosen(self._last(count)):
                return known
        while True:
            while lines := self._files.read():
                if known := self._chosen(_parsed(lines)):
                    return known
            if self._is_last or not self._follow:
                return None
            # What it wrote before its end is still to be read.
            self._is_last = not self._container.is_running or self._is_late(time.time_ns())
            if not self._is_last:
                return []

    def _is_late(self, now_ns: int) -> bool:
        return bool(self._until) and moment(now_ns) > self._until

    def _last(self, count: int) -> Iterable[LogLine]:
        """Read all that is there and return the last *count* lines; many are not kept for that."""
        if count > MOST_HELD:
            there = RotatedLines(self._home, self._names)
            try:
                surplus = sum(map(len, iter(there.read, []))) - count
            finally:
                there.close()
            while surplus > 0 and (lines := self._files.read()):
                if len(lines) > surplus:
                    return _parsed(lines[surplus:])
                surplus -= len(lines)
            return ()
        held: deque[bytes] = deque(maxlen=count)
        while lines := self._files.read():
            held.extend(lines)
        return _parsed(held)

    def _chosen(self, lines: Iterable[LogLine]) -> list[LogLine]:
        return [
            one
            for one in lines
            if one.time >= self._since and not (self._until and one.time > self._until)
        ]


def read_log(
    container: Container, *, follow: bool, tail: int | None, since: str = "", until: str = ""
) -> Iterator[LogLine]:
    """Yield the lines of a `LogReader`, waiting for those to come."""
    with container.home() as home:
        reader = LogReader(home, container, follow=follow, tail=tail, since=since, until=until)
        try:
            while (lines := reader.read()) is not None:
                yield from lines
                if not lines:
                    time.sleep(_PAUSE_S)
        finally:
            reader.close()


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
