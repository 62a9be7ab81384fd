"""The processes of a container: who may be started there, frozen, limited, listed [ENG-21]."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from pybuild.containers.insides import (
    end_all,
    freeze,
    limited,
    pause,
    pids_of,
    processes,
    see_it_runs,
)
from pybuild.containers.state import ContainerState
from pybuild.executor.steps.spec import StepLimits, StepSpec
from pybuild.executor.zygote.cgroups import Leaf
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.executor.zygote.hierarchies import Hierarchy

STEP = StepSpec((), "/up", "/work", ("true",))


def leaf_of(folder: Path, version: int = 2, *controllers: str) -> Leaf:
    leaf = Leaf()
    leaf.places.append((Hierarchy(version, str(folder), str(folder), controllers), str(folder)))
    return leaf


def freezer(folder: Path, frozen: int) -> Leaf:
    """Return a cgroup whose processes stand still already, or go on already: no kernel is there."""
    (folder / "cgroup.freeze").write_text("x")
    (folder / "cgroup.events").write_text(f"populated 1\nfrozen {frozen}\n")
    return leaf_of(folder)


@pytest.mark.parametrize(
    ("status", "is_there", "message", "hints"),
    [
        ("running", True, "", ()),
        ("running", False, "container web is not running", ()),
        ("exited", True, "container web is not running", ()),
        ("created", False, "container web is not running", ()),
        ("paused", True, "container web is paused", ("pybuild unpause lets it go on",)),
        ("restarting", True, "container web is restarting, wait until it is running", ()),
    ],
)
def test_only_in_one_that_runs_a_process_can_be_started(
    status: str, is_there: bool, message: str, hints: tuple[str, ...]
) -> None:
    if not message:
        see_it_runs(ContainerState(status), "web", is_there=is_there)
        return
    with pytest.raises(Fault) as caught:
        see_it_runs(ContainerState(status), "web", is_there=is_there)
    assert (caught.value.kind, str(caught.value), caught.value.hints) == (USER, message, hints)


@pytest.mark.parametrize(("frozen", "word"), [(True, "1"), (False, "0")])
def test_all_of_a_cgroup_are_frozen_and_let_go_on(tmp_path: Path, frozen: bool, word: str) -> None:
    assert freeze(freezer(tmp_path, int(frozen)), frozen)
    assert (tmp_path / "cgroup.freeze").read_text()[:1] == word


def test_without_a_freezer_nothing_is_frozen(tmp_path: Path) -> None:
    assert not freeze(None, True)
    assert not freeze(leaf_of(tmp_path), True)
    with pytest.raises(Fault) as caught:
        pause(ContainerState("running"), None, True, "ab" * 32, is_there=True)
    assert caught.value.kind == ENVIRONMENT
    assert str(caught.value) == (
        "container abababababab cannot be paused: it has no cgroup with a freezer here"
    )
    assert caught.value.hints == ("pybuild doctor shows which cgroups this machine gives",)


@pytest.mark.parametrize(
    ("status", "paused", "message"),
    [
        ("paused", True, "container web is already paused"),
        ("running", False, "container web is not paused"),
        ("exited", False, "container web is not paused"),
        ("exited", True, "container web is not running"),
        ("restarting", True, "container web is restarting, wait until it is running"),
    ],
)
def test_what_is_so_already_is_refused(status: str, paused: bool, message: str) -> None:
    with pytest.raises(Fault) as caught:
        pause(ContainerState(status), None, paused, "web", is_there=True)
    assert (caught.value.kind, str(caught.value)) == (USER, message)


def test_one_that_is_paused_goes_on(tmp_path: Path) -> None:
    pause(ContainerState("paused"), freezer(tmp_path, 0), False, "web", is_there=True)
    assert (tmp_path / "cgroup.freeze").read_text()[:1] == "0"
    (tmp_path / "cgroup.events").write_text("frozen 1\n")
    pause(ContainerState("running"), leaf_of(tmp_path), True, "web", is_there=True)
    assert (tmp_path / "cgroup.freeze").read_text()[:1] == "1"
    with pytest.raises(Fault, match="is not running"):
        pause(ContainerState("running"), leaf_of(tmp_path), True, "web", is_there=False)


def test_processes_are_those_of_the_first_cgroup(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("7\n12\n")
    assert pids_of([str(tmp_path), "/other"], 1) == [7, 12]
    assert processes(leaf_of(tmp_path), 1) == [7, 12]
    assert pids_of([str(tmp_path / "gone")], os.getpid()) == []


def test_without_cgroups_they_are_those_of_the_namespace() -> None:
    ours = pids_of([], os.getpid())
    assert os.getpid() in ours
    assert ours == sorted(ours)
    assert os.getpid() in processes(None, os.getpid())
    assert pids_of([], 4194305) == []  # no process has so high a number


def test_limits_that_are_given_replace_those_there_were(tmp_path: Path) -> None:
    step = STEP._replace(limits=StepLimits(memory_bytes=1, pids=2))
    (tmp_path / "pids.max").touch()
    known, warnings = limited(step, leaf_of(tmp_path, 2, "pids"), StepLimits(pids=7))
    assert known == STEP._replace(limits=StepLimits(memory_bytes=1, pids=7))
    assert warnings == []
    assert (tmp_path / "pids.max").read_text() == "7"
    known, warnings = limited(step, leaf_of(tmp_path), StepLimits(pids=7))
    assert len(warnings) == 1
    assert warnings[0].startswith("no pids cgroup here, so ")
    assert limited(step, None, StepLimits(pids=9)) == (
        STEP._replace(limits=StepLimits(memory_bytes=1, pids=9)),
        [],
    )
    assert limited(step, leaf_of(tmp_path), StepLimits()) == (step, [])


def test_all_of_a_cgroup_are_killed(tmp_path: Path) -> None:
    """Those of a container without a process namespace, which its end would not end."""
    child = subprocess.Popen(["sleep", "1000"])
    procs = tmp_path / "cgroup.procs"
    procs.write_text(f"{child.pid}\n")

    def reap() -> None:
        child.wait()
        procs.write_text("")

    thread = threading.Thread(target=reap)
    thread.start()
    end_all(freezer(tmp_path, 1))
    thread.join()
    assert child.returncode == -9
    assert (tmp_path / "cgroup.freeze").read_text()[:1] == "0"
