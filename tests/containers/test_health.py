"""The health of a container, told by what its command answers [CTR-37]."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers.health import HEALTHY, STARTING, UNHEALTHY, Health, read_health
from pybuild.containers.loop import Loop
from pybuild.containers.order import HealthCheck

MS = 10**6
CHECK = HealthCheck(("CMD", "x"), MS, 10**12, 0, MS, 2)


@pytest.fixture
def home(tmp_path: Path) -> Generator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


class Probes:
    """The looks after a health, of which each answers when it is told to."""

    def __init__(self, home: int, check: HealthCheck = CHECK, **known: Any) -> None:
        self.loop = Loop()
        self.home = home
        self.ended = 0
        self.changes: list[str] = []
        self.answer: Callable[[int, bytes], None] = lambda status, output: None
        self.count = 0
        self.health = Health(self.loop, home, check, self._probe, self.changes.append, **known)

    def _probe(self, answer: Callable[[int, bytes], None]) -> Callable[[], bytes]:
        self.answer = answer
        self.count += 1
        return self._end

    def _end(self) -> bytes:
        self.ended += 1
        return b"so far"

    def next(self, status: int, output: bytes = b"") -> None:
        """Have the next look answer so."""
        before = self.count
        while self.count == before:
            self.loop.turn(1000)
        self.answer(status, output)

    @property
    def told(self) -> dict[str, Any]:
        known = read_health(self.home)
        assert known is not None
        return known


def test_so_many_failures_in_a_row_make_it_unhealthy(home: int) -> None:
    assert read_health(home) is None
    probes = Probes(home)
    assert probes.told == {"Status": STARTING, "FailingStreak": 0, "Log": []}
    probes.next(1, b"no")
    assert (probes.told["Status"], probes.told["FailingStreak"]) == (STARTING, 1)
    probes.next(1)
    assert (probes.told["Status"], probes.told["FailingStreak"]) == (UNHEALTHY, 2)
    assert probes.changes == [UNHEALTHY]
    probes.next(0, b"\xffwell" + b"." * 5000)
    assert (probes.told["Status"], probes.told["FailingStreak"]) == (HEALTHY, 0)
    probes.next(1)
    assert (probes.told["Status"], probes.told["FailingStreak"]) == (HEALTHY, 1)
    assert probes.changes == [UNHEALTHY, HEALTHY]
    log = probes.told["Log"]
    assert [one["ExitCode"] for one in log] == [1, 1, 0, 1]
    assert log[0]["Output"] == "no" and log[2]["Output"] == "\ufffdwell" + "." * 4091
    assert log[0]["Start"] <= log[0]["End"] <= log[1]["Start"]


def test_the_last_five_looks_are_kept(home: int) -> None:
    probes = Probes(home)
    for status in (1, 0, 0, 0, 0, 0, 2):
        probes.next(status)
    assert [one["ExitCode"] for one in probes.told["Log"]] == [0, 0, 0, 0, 2]


def test_failures_while_it_starts_do_not_count_until_it_was_healthy(home: int) -> None:
    probes = Probes(home, CHECK._replace(interval=10**15, start_period=10**13))
    for _ in range(3):  # each after the shorter time of the start
        probes.next(1)
    assert (probes.told["Status"], probes.told["FailingStreak"]) == (STARTING, 0)
    late = Probes(home, CHECK._replace(start_period=10**9), ran_s=2.0)
    late.next(1)
    assert late.told["FailingStreak"] == 1
    early = Probes(home, CHECK._replace(start_period=10**13), before={"Status": HEALTHY})
    early.next(1)
    assert early.told["FailingStreak"] == 1


def test_one_that_takes_too_long_is_ended_and_its_answer_is_not_heard(home: int) -> None:
    probes = Probes(home, CHECK._replace(timeout=2 * MS, retries=1))
    while not probes.ended:
        probes.loop.turn(1000)
    assert probes.told["Status"] == UNHEALTHY
    (entry,) = probes.told["Log"]
    assert entry["ExitCode"] == -1
    assert entry["Output"] == "Health check exceeded timeout (2ms): so far"
    probes.answer(0, b"late")
    assert len(probes.told["Log"]) == 1


def test_what_another_monitor_counted_goes_on(home: int) -> None:
    before = {"Status": UNHEALTHY, "FailingStreak": 4, "Log": [{"ExitCode": 1}]}
    probes = Probes(home, before=before)
    assert probes.told == before
    probes.next(1)
    assert (probes.told["FailingStreak"], len(probes.told["Log"])) == (5, 2)
    assert probes.changes == []


def test_nobody_looks_while_it_stands_still(home: int) -> None:
    probes = Probes(home)
    probes.health.pause(True)
    probes.loop.turn(5)
    probes.loop.turn(5)
    assert (probes.count, probes.ended) == (0, 0)
    probes.health.pause(False)
    while not probes.count:
        probes.loop.turn(1000)
    probes.health.stop()
    assert probes.ended == 1
    probes.answer(0, b"")
    assert probes.told["Log"] == []
    probes.health.stop()
    assert probes.ended == 1
