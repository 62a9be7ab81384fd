"""Containers looked at from outside: events [ENG-45…49], and how much they take."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator

import pytest

from tests.e2e.test_containers import run, wait_until
from tests.harness import Pybuild, leftovers

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture
def machine(pybuild: Pybuild, base: str) -> Generator[Pybuild]:
    """A store with the image *base*, in which nothing runs afterwards."""
    assert base
    yield pybuild
    ids = pybuild("ps", "-aq", code=None).out.split()
    if ids:
        pybuild("rm", "-f", *ids)
    wait_until(lambda: not leftovers(pybuild.store))


def events(machine: Pybuild, *filters: str) -> list[dict[str, object]]:
    words = [word for text in filters for word in ("--filter", text)]
    out = machine("events", "--since", "1h", "--until", "0s", "--format", "json", *words).out
    return [json.loads(line) for line in out.splitlines()]


def test_one_life_is_told_in_order(machine: Pybuild) -> None:
    """[ENG-46, ENG-47, ENG-48]"""
    machine("volume", "create", "data")
    run(
        machine,
        "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done",
        *("--name", "one", "-v", "data:/data", "--label", "tier=a"),
    )
    wait_until(lambda: "up" in machine("logs", "one").out)
    machine("exec", "one", "sh", "-c", "exit 3", code=3)
    machine("restart", "one")
    wait_until(lambda: machine("logs", "one").out.count("up") == 2)
    machine("rename", "one", "two")
    machine("stop", "two")
    machine("rm", "two")
    machine("volume", "rm", "data")
    said = events(machine)
    assert [f"{event['Type']} {event['Action']}" for event in said if event["Type"] != "image"] == [
        "volume create",
        "container create",
        "volume mount",
        "container start",
        "container exec_create: sh -c exit 3",
        "container exec_start: sh -c exit 3",
        "container exec_die",
        "container kill",
        "container die",
        "volume unmount",
        "container stop",
        "volume mount",
        "container start",
        "container restart",
        "container rename",
        "container kill",
        "container die",
        "volume unmount",
        "container stop",
        "container destroy",
        "volume destroy",
    ]
    ends = [one["Actor"] for one in events(machine, "event=die", "label=tier=a")]
    assert [one["Attributes"]["exitCode"] for one in ends] == ["7", "7"]  # type: ignore[index]
    assert [one["Attributes"]["name"] for one in ends] == ["one", "two"]  # type: ignore[index]
    (renamed,) = events(machine, "event=rename")
    assert renamed["Actor"]["Attributes"]["oldName"] == "/one"  # type: ignore[index]
    assert renamed["from"] == ends[0]["Attributes"]["image"]  # type: ignore[index]


def test_events_are_followed_as_they_come(machine: Pybuild) -> None:
    words = (
        "events",
        "--since",
        "1h",
        "--filter",
        "type=volume",
        "--format",
        "{{.Action}} {{.Actor.ID}}",
    )
    machine("volume", "create", "first")
    follower = subprocess.Popen(
        machine.command(*words), env=machine.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "create first\n"
        machine("volume", "create", "second")
        assert follower.stdout.readline() == "create second\n"
    finally:
        follower.kill()
        follower.wait()
        assert follower.stdout is not None
        follower.stdout.close()
