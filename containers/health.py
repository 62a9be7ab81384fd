"""Looks after a container's health: a command in it, again and again [CTR-37]."""

from __future__ import annotations

import os
import time

from pybuild.cache.disk.replacing import replace_file
from pybuild.containers.log import moment
from pybuild.containers.order import HEALTH, HealthCheck
from pybuild.model import lightjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pybuild.containers.loop import Loop, Timer

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
_KEPT = 5
_MOST_OUTPUT = 4096
_TIMED_OUT = -1


class Health:
    """The health of one run of a container, and the probes that tell it.

    Args:
        home: the container's directory, open.
        probe: starts the command, and calls the function with its status and output; returns what ends it.
        changed: is called with another status than the one before.
        ran_s: how long the container has run; *before*: what its file says, if somebody looked until now.
    """

    def __init__(
        self,
        loop: Loop,
        home: int,
        check: HealthCheck,
        probe: Callable[[Callable[[int, bytes], None]], Callable[[], bytes]],
        changed: Callable[[str], None],
        ran_s: float = 0.0,
        before: dict[str, Any] | None = None,
    ) -> None:
        self._loop = loop
        self._home = home
        self._check = check
        self._probe = probe
        self._changed = changed
        known = before or {}
        self._status = str(known.get("Status", STARTING))
        self._streak = int(known.get("FailingStreak", 0))
        self._log: list[dict[str, Any]] = list(known.get("Log", ()))
        self._began = time.monotonic() - ran_s
        self._timer: Timer | None = None
        self._limit: Timer | None = None
        self._end: Callable[[], bytes] | None = None
        self._write()
        self._wait()

    def stop(self) -> None:
        """Look no longer, neither now nor later."""
        for timer in (self._timer, self._limit):
            if timer is not None:
                timer.cancel()
        if self._end is not None:
            self._end()
        self._end = None

    def pause(self, paused: bool) -> None:
        """Look at nothing while the container stands still."""
        if paused:
            self.stop()
        else:
            self._wait()

    def _wait(self) -> None:
        check = self._check
        in_start = time.monotonic() - self._began < check.start_period / 1e9
        interval = check.interval
        if self._status == STARTING and in_start:
            interval = min(interval, check.start_interval)
        self._timer = self._loop.after(interval / 1e9, self._look)

    def _look(self) -> None:
        start = time.time_ns()
        self._end = self._probe(lambda status, output: self._answered(start, status, output))
        if self._end is not None:
            self._limit = self._loop.after(
                self._check.timeout / 1e9, lambda: self._timed_out(start)
            )

    def _timed_out(self, start: int) -> None:
        end, self._end = self._end, None
        output = end() if end is not None else b""
        timeout = self._check.timeout
        shown = f"{timeout / 1e9:g}s" if timeout >= 10**9 else f"{timeout / 1e6:g}ms"
        text = f"Health check exceeded timeout ({shown})".encode()
        self._count(start, _TIMED_OUT, text + b": " + output if output else text)

    def _answered(self, start: int, status: int, output: bytes) -> None:
        if self._end is None:
            return  # it was too late
        self._end = None
        if self._limit is not None:
            self._limit.cancel()
        self._count(start, status, output)

    def _count(self, start: int, status: int, output: bytes) -> None:
        in_start = time.monotonic() - self._began < self._check.start_period / 1e9
        before = self._status
        if status == 0:
            self._status, self._streak = HEALTHY, 0
        elif not (self._status == STARTING and in_start):
            self._streak += 1
            if self._streak >= self._check.retries:
                self._status = UNHEALTHY
        entry = {
            "Start": moment(start),
            "End": moment(time.time_ns()),
            "ExitCode": status,
            "Output": output[:_MOST_OUTPUT].decode("utf-8", "replace"),
        }
        self._log = [*self._log, entry][-_KEPT:]
        self._write()
        if self._status != before:
            self._changed(self._status)
        self._wait()

    def _write(self) -> None:
        document = {"Status": self._status, "FailingStreak": self._streak, "Log": self._log}
        try:
            replace_file(HEALTH, lightjson.dumps(document).encode(), at=self._home)
        except OSError:
            pass  # on a full disk; the next probe tries it again


def read_health(home: int) -> dict[str, Any] | None:
    """Return the health of the container whose directory is *home*, as docker shows it; None: nobody looks."""
    try:
        fd = os.open(HEALTH, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        known: dict[str, Any] = lightjson.loads(file.read())
    return known
