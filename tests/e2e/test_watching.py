"""Containers looked at from outside: events [ENG-45…49], and how much they take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_containers import monitors, run, wait_until
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def events(machine: Pybuild, *filters: str) -> list[dict[str, object]]:
    words = [word for text in filters for word in ("--filter", text)]
    out = machine("events", "--since", "1h", "--until", "0s", "--format", "json", *words).out
    return [json.loads(text) for text in out.splitlines()]


def test_one_life_is_told_in_order(machine: Pybuild) -> None:
    """[ENG-46, ENG-47, ENG-48]"""
    machine("volume", "create", "data")
    run(
        machine,
        "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done",
        *("--name", "one", "-v", "data:/data", "--label", "tier=a", "--network", "host"),
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


def test_stats_are_those_of_its_processes(machine: Pybuild) -> None:
    """[CTR-80]"""
    assert machine("stats", "--no-stream").out.split() == (
        [
            "CONTAINER",
            "ID",
            "NAME",
            "CPU",
            "%",
            "MEM",
            "USAGE",
            "/",
            "LIMIT",
            "MEM",
            "%",
            "NET",
            "I/O",
            "BLOCK",
            "I/O",
            "PIDS",
        ]
    )
    alone = ("--network", "none")
    run(machine, "echo up; sleep 1000 & while :; do :; done", "--name", "busy", *alone)
    run(machine, "exit 0", "--name", "done")
    machine("wait", "done")
    wait_until(lambda: "up" in machine("logs", "busy").out)
    (row,) = (json.loads(text) for text in said(machine, "--no-stream", "--format", "json"))
    assert (row["Name"], row["PIDs"], row["NetIO"]) == ("busy", "2", "0B / 0B")
    assert float(row["CPUPerc"].rstrip("%")) > 0
    assert not row["MemUsage"].startswith("0B") and not row["MemUsage"].endswith(" 0B")
    form = ("--no-stream", "-a", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}")
    assert said(machine, *form)[0] == "done 0 0B / 0B"
    assert [text.split()[0] for text in said(machine, *form)] == ["done", "busy"]
    assert said(machine, *form, "busy")[0].startswith("busy 2 ")
    assert "no such container: none" in machine("stats", "--no-stream", "none", code=1).err


def said(machine: Pybuild, *words: str) -> list[str]:
    return machine("stats", *words).out.splitlines()


def states(machine: Pybuild) -> list[Path]:
    return list((machine.store / "containers").glob("*/state.json"))


def test_those_of_policies_are_started_after_a_boot(machine: Pybuild) -> None:
    """Once: what is stopped by hand afterwards stays so [CTR-34, MON-7]."""
    for name, policy in (("one", "always"), ("two", "unless-stopped"), ("three", "no")):
        run(machine, "while :; do sleep 1; done", "--name", name, "--restart", policy)
    machine("stop", "-t", "0", "one", "two", "three")
    assert machine("start", "--boot").out == ""
    for path in states(machine):
        known = json.loads(path.read_text())
        assert known["stopped"]
        is_ours = '"two"' in (path.parent / "config.json").read_text()
        path.write_text(json.dumps({**known, "boot": "before", "stopped": not is_ours}))
    assert machine("start", "--boot").out == "one\ntwo\n"
    machine("stop", "-t", "0", "one")
    assert machine("start", "--boot").out == ""
    assert machine("ps", "--format", "{{.Names}}").out == "two\n"
    assert "start needs a container" in machine("start", code=2).err


def test_the_wish_to_stop_outlives_a_monitor(machine: Pybuild) -> None:
    """One that is being stopped is neither started again nor forgotten to be killed [MON-6]."""
    script = "trap 'while [ ! -e /go ]; do sleep 0.05; done; exit 7' TERM; echo up; {}"
    waits = "while :; do sleep 0.05; done"
    run(machine, script.format(waits), "--name", "slow", "--restart", "always")
    wait_until(lambda: "up" in machine("logs", "slow").out)
    (path,) = states(machine)
    for seconds, ending in (("300", 7), ("3", 137)):
        (old,) = monitors(machine.store)
        stop = subprocess.Popen(
            machine.command("stop", "-t", seconds, "slow"), env=machine.environment
        )
        wait_until(lambda: bool(json.loads(path.read_text())["stopped"]))
        os.kill(old, signal.SIGKILL)
        wait_until(lambda old=old: monitors(machine.store) not in ([], [old]))
        if ending == 7:
            machine("exec", "slow", "touch", "/go")
        assert machine("wait", "slow").out == f"{ending}\n"
        stop.wait(60)
        known = json.loads(path.read_text())
        assert (known["status"], known["restarts"], known["exit_code"]) == ("exited", 0, ending)
        if ending == 7:
            machine("start", "slow")
            machine("exec", "slow", "rm", "/go")


def test_a_signal_that_a_monitor_was_about_to_send_is_sent_by_the_next(machine: Pybuild) -> None:
    """Its wish is on the disk before the signal is out; a kill in between loses neither [MON-6]."""
    script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"
    run(machine, script, "--name", "slow", "--restart", "always")
    wait_until(lambda: "up" in machine("logs", "slow").out)
    (path,), (monitor,) = states(machine), monitors(machine.store)
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "stopped": True, "unsent": int(signal.SIGTERM)}))
    os.kill(monitor, signal.SIGKILL)
    assert machine("wait", "slow").out == "7\n"
    known = json.loads(path.read_text())
    assert (known["status"], known["restarts"], known["unsent"]) == ("exited", 0, 0)


def test_one_that_goes_with_its_end_goes_without_who_would_remove_it(machine: Pybuild) -> None:
    """A ``run --rm`` that is killed when it has heard of the end leaves nothing [CTR-36]."""
    machine("create", "--rm", "--name", "one", "base", "sh", "-c", "exit 7")
    words = [sys.executable, "-c", _REMOVER, str(machine.store)]
    done = subprocess.run(words, env=machine.environment, check=True, timeout=120)
    assert done.returncode == 0
    wait_until(lambda: machine("ps", "-aq").out == "")


_REMOVER = """
import marshal, sys
from pybuild.cache.store import Store
from pybuild.containers.containers import Containers
from pybuild.containers.lines import (LocalLine)
from pybuild.containers.order import (StreamAttachment)
from pybuild.engine.host import SystemClock

ours, theirs = LocalLine.pair()
containers = Containers(Store.open(sys.argv[1], SystemClock()))
containers.start(containers.find("one"), attached=[(theirs, StreamAttachment(removes=True))])
theirs.close()
ours.settimeout(60)
while marshal.loads(ours.recv(1 << 18)) != ("ended", 7):
    pass
assert containers.find("one")  # which nobody but us was to remove
"""


def test_what_a_container_lies_on_is_kept(machine: Pybuild) -> None:
    """Nothing that frees takes its image, nor, when that is removed by name, its layers [CTR-9]."""
    id = machine("create", "--name", "one", "base", "sh", "-c", "echo still here").out.strip()
    machine("tag", "base", "other")
    (images, *_) = machine("system", "df", "--format", "{{.Type}} {{.Active}}").out.splitlines()
    assert images == "Images 1"
    machine("image", "prune", "-af")
    machine("prune", "-af", "--max-used-space", "1")
    assert machine("images", "--format", "{{.Repository}}").out.split() == ["base", "other"]
    assert machine("start", "-a", "one").out == "still here\n"
    refused = machine("rmi", "base", "other", code=1)
    assert refused.out == "Untagged: docker.io/library/base:latest\n"
    assert f'reference "other" (must force) - container {id[:12]} is using its' in refused.err
    machine("rmi", "-f", "other")
    machine("prune", "-af")
    (delta,) = (
        json.loads(text)
        for text in machine("du", "--format", "json", "--filter", "type=regular").out.splitlines()
    )
    assert delta["in_use"] and not delta["reclaimable"]
    page = machine("why-kept", delta["id"]).out
    assert f"needed by   container {id[:12]}\n" in page
    assert f"to free it  pybuild rm {id[:12]}, then pybuild prune\n" in page
    assert machine("start", "-a", "one").out == "still here\n"
    machine("commit", "one", "again")
    machine("rm", "one")
    machine("rmi", "again")
    machine("prune", "-af")
    assert machine("du", "--format", "json", "--filter", "type=regular").out == ""
