"""The cgroups of one step by their files, which lie in a directory here: no kernel is asked [SBX-13]."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import StepLimits
from pybuild.executor.zygote import cgroups
from pybuild.executor.zygote.cgroups import Leaf
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.executor.zygote.hierarchies import Hierarchy, discover, remove_stale, usable


def leaf(path: Path, version: int, *controllers: str, **files: str) -> Leaf:
    """Return a leaf whose one cgroup is *path*, with the files *files*, ``_`` for a dot."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("_", ".", 1)).write_text(text)
    made = Leaf()
    top = str(path.parent)
    made.places.append((Hierarchy(version, top, top, controllers), str(path)))
    return made


def test_version_1_takes_tasks_and_version_2_processes(tmp_path: Path) -> None:
    step = leaf(tmp_path / "a", 1, "pids", tasks="")
    step.places += leaf(tmp_path / "b", 2, cgroup_procs="").places
    step.join()
    assert (tmp_path / "a/tasks").read_text() == "0"
    assert (tmp_path / "b/cgroup.procs").read_text() == ""
    (tmp_path / "a/tasks").write_text("")
    step.join_all()
    assert (tmp_path / "a/tasks").read_text() == "0"
    assert (tmp_path / "b/cgroup.procs").read_text() == "0"


def test_version_2_freezes_each_cgroup_where_the_kernel_can(tmp_path: Path) -> None:
    step = leaf(tmp_path / "a", 2, cgroup_freeze="0", cgroup_events="populated 1\nfrozen 0\n")
    assert step.freezer() == (f"{tmp_path}/a/cgroup.freeze", "1", "0")
    assert step.freeze(True)
    assert (tmp_path / "a/cgroup.freeze").read_text() == "1"
    assert not step.is_frozen()
    (tmp_path / "a/cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert step.is_frozen()
    assert step.freeze(False)
    assert (tmp_path / "a/cgroup.freeze").read_text() == "0"


def test_version_1_has_a_hierarchy_for_it(tmp_path: Path) -> None:
    step = leaf(tmp_path / "a", 1, "memory", cgroup_freeze="")
    step.places += leaf(tmp_path / "b", 1, "freezer", freezer_state="THAWED").places
    assert step.freezer() == (f"{tmp_path}/b/freezer.state", "FROZEN", "THAWED")
    assert not step.is_frozen()
    assert step.freeze(True)
    assert step.is_frozen()
    (tmp_path / "b/freezer.state").write_text("FREEZING\n")
    assert not step.is_frozen()
    (tmp_path / "b/freezer.state").write_text("FROZEN\n")
    assert step.is_frozen()


def test_without_a_freezer_nothing_is_frozen(tmp_path: Path) -> None:
    for version in (1, 2):
        step = leaf(tmp_path / "a", version, "memory")
        assert step.freezer() is None
        assert (step.freeze(True), step.is_frozen()) == (False, False)
        assert list((tmp_path / "a").iterdir()) == []


def test_other_limits_replace_those_that_it_has(tmp_path: Path) -> None:
    step = leaf(tmp_path / "a", 2, "pids", pids_max="5")
    step.places += leaf(tmp_path / "b", 2, "memory", memory_max="max").places
    step.warnings.append("an earlier one")
    assert step.limit(StepLimits(pids=9, memory_bytes=1 << 20)) == []
    assert (tmp_path / "a/pids.max").read_text() == "9"
    assert (tmp_path / "b/memory.max").read_text() == "1048576"
    assert step.limit(StepLimits()) == []


def test_limits_that_no_cgroup_has_are_told_of(tmp_path: Path) -> None:
    step = leaf(tmp_path / "a", 2, "pids", pids_max="5")
    assert step.limit(StepLimits(pids=7, memory_bytes=1, memory_swap_bytes=2)) == [
        "no memory cgroup here, so memory is not enforced (see pybuild doctor)",
        "no memory cgroup here, so memory-swap is not enforced (see pybuild doctor)",
    ]
    assert (tmp_path / "a/pids.max").read_text() == "7"


def test_a_file_that_the_kernel_has_not_is_told_of(tmp_path: Path) -> None:
    step = leaf(tmp_path / "a", 2, "pids", "memory", memory_max="")
    assert step.limit(StepLimits(memory_bytes=5, swappiness="3")) == [
        "this kernel cannot enforce memory-swappiness: it has no memory.swappiness"
    ]
    assert (tmp_path / "a/memory.max").read_text() == "5"


def test_a_value_that_is_refused_is_the_users(tmp_path: Path) -> None:
    step = leaf(tmp_path / "a", 2, "pids", "memory")
    (tmp_path / "a/pids.max").symlink_to("/dev/full")
    with pytest.raises(Fault, match="^invalid pids: 7: no space left on device$") as caught:
        step.limit(StepLimits(pids=7))
    assert (caught.value.kind, caught.value.hints) == (USER, ())
    (tmp_path / "a/pids.max").unlink()
    (tmp_path / "a/pids.max").symlink_to("/proc/self/oom_score_adj")
    with pytest.raises(Fault, match="^invalid pids: 5000: invalid argument$") as caught:
        step.limit(StepLimits(pids=5000))
    assert caught.value.hints == ("the limits of the builder's own cgroup bound those of steps",)


def test_use_is_read_as_each_version_has_it(tmp_path: Path) -> None:
    new = leaf(
        *(tmp_path / "new", 2, "memory", "pids"),
        memory_peak="4096\n",
        memory_events="oom 3\noom_kill 2\n",
        pids_events="max 1\n",
    )
    assert new.usage() == (4096, 2, True)
    old = leaf(
        *(tmp_path / "old", 1, "memory"),
        memory_max_usage_in_bytes="8192\n",
        memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    )
    old.places += leaf(tmp_path / "pids", 1, "pids", pids_events="max 0\n").places
    assert old.usage() == (8192, 1, False)


def test_use_that_nobody_counts_is_not_known(tmp_path: Path) -> None:
    assert leaf(tmp_path / "a", 2, "cpu").usage() == (-1, -1, False)
    assert leaf(tmp_path / "a", 2, "memory", "pids").usage() == (-1, -1, False)
    odd = leaf(tmp_path / "b", 2, "memory", memory_peak="much", memory_events="oom_kill two\n")
    assert odd.usage() == (-1, -1, False)
    odd = leaf(tmp_path / "b", 2, "memory", memory_events="oom_kill 1 2\noom_kill_group 5\n")
    assert odd.usage()[1] == -1


def test_removal_takes_inner_cgroups_and_parents_that_are_ours(tmp_path: Path) -> None:
    step = leaf(tmp_path / "parent/a", 2)
    (tmp_path / "parent/a/inner/deep").mkdir(parents=True)
    step.places += leaf(tmp_path / "gone", 2).places
    (tmp_path / "gone").rmdir()
    step.made = [str(tmp_path / "parent")]
    step.into_fd = fd = os.open(tmp_path, os.O_PATH | os.O_CLOEXEC)
    assert step.remove()
    assert step.into_fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert list(tmp_path.iterdir()) == []
    assert step.places == []
    assert step.remove()


def test_what_is_still_used_is_removed_later(tmp_path: Path) -> None:
    step = leaf(tmp_path / "first", 2)
    step.places += leaf(tmp_path / "second", 2).places
    step.made = [str(tmp_path)]
    busy = tmp_path / "first/busy"  # as a cgroup that holds a process, this is no empty directory
    busy.write_text("")
    assert not step.remove()
    assert [path for _, path in step.places] == [str(tmp_path / "first")]
    assert not (tmp_path / "second").exists()
    busy.unlink()
    (tmp_path / "other").mkdir()
    assert step.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


# --- where they are made ----------------------------------------------------------------------------


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Hierarchy]]:
    """Hierarchies that are directories: one of each version."""
    made: list[Hierarchy] = []
    for version, name, controllers in (
        (1, "old", ("cpu", "cpuset")),
        (2, "new", ("memory", "pids")),
    ):
        (tmp_path / name / "own").mkdir(parents=True)
        top = str(tmp_path / name)
        made.append(Hierarchy(version, top, top + "/own", controllers))
    monkeypatch.setattr(cgroups, "hierarchies", lambda: made)
    yield made


def test_a_cgroup_is_made_in_each_hierarchy_that_is_needed(
    homes: list[Hierarchy], tmp_path: Path
) -> None:
    step = cgroups.make(StepLimits(), "1-2")
    assert [path for _, path in step.places] == [f"{tmp_path}/new/own/pybuild-1-2"]
    assert step.has_pids
    assert os.fstat(step.into_fd).st_ino == (tmp_path / "new/own/pybuild-1-2").stat().st_ino
    assert step.pids == cgroups.default_pids() >= 1024
    # No file is there to be written to, as in a kernel that lacks it.
    assert step.warnings == ["this kernel cannot enforce pids: it has no pids.max"]
    assert step.remove()
    assert list((tmp_path / "new/own").iterdir()) == []


def test_limits_are_written_where_they_were_asked_for(
    homes: list[Hierarchy], tmp_path: Path
) -> None:
    (tmp_path / "old/own/pybuild-x").mkdir()
    for file in ("cpu.shares", "cpuset.cpus", "cpuset.mems"):
        (tmp_path / "old/own/pybuild-x" / file).write_text("")
        (tmp_path / "old/own" / file).write_text(" 0-3\n")
    step = cgroups.make(StepLimits(cpu_shares=7, cpuset_cpus="2", pids=1 << 20), "x")
    place = tmp_path / "old/own/pybuild-x"
    assert (place / "cpu.shares").read_text() == "7"
    assert (place / "cpuset.cpus").read_text() == "2-3"  # a file of a kernel has no rest of before
    assert (place / "cpuset.mems").read_text() == "0-3"
    assert step.pids == 1 << 20
    assert len(step.places) == 2


def test_missing_controllers_are_told_of_once(homes: list[Hierarchy]) -> None:
    homes[0].problem = "not writable"
    homes[1].controllers = ("pids",)
    step = cgroups.make(StepLimits(cpu_shares=2, cpu_quota_us=5, memory_bytes=1), "x")
    assert step.warnings[0] == (
        "no memory cgroup here, so memory is not enforced (see pybuild doctor)"
    )
    assert step.warnings[2] == (
        "no cpu cgroup here, so cpu-shares and cpu-quota are not enforced (see pybuild doctor)"
    )
    assert len(step.warnings) == 3
    step.remove()
    homes[1].problem = "gone"
    step = cgroups.make(StepLimits(), "x")
    assert (step.warnings, step.places, step.has_pids, step.into_fd) == ([], [], False, -1)


def test_a_place_to_freeze_is_made_on_request_alone(homes: list[Hierarchy], tmp_path: Path) -> None:
    homes[0] = Hierarchy(1, f"{tmp_path}/old", f"{tmp_path}/old/own", ("freezer",))
    step = cgroups.make(StepLimits(), "x")
    assert step.freezer() is None
    step.remove()
    step = cgroups.make(StepLimits(), "x", changes=True)
    assert step.freezer() == (f"{tmp_path}/old/own/pybuild-x/freezer.state", "FROZEN", "THAWED")
    assert step.remove()


@pytest.mark.parametrize(
    ("parent", "place"),
    [("/a/b", "new/a/b"), ("a/./b//", "new/own/a/b"), ("/", "new")],
)
def test_parents_are_below_the_own_cgroup_or_the_top(
    homes: list[Hierarchy], tmp_path: Path, parent: str, place: str
) -> None:
    step = cgroups.make(StepLimits(parent=parent), "x")
    assert [path for _, path in step.places] == [f"{tmp_path / place}/pybuild-x"]
    # Who is there, too, keeps the parent; whoever comes last removes it.
    second = cgroups.make(StepLimits(parent=parent), "y")
    assert step.remove()
    assert (tmp_path / place).exists()
    assert second.remove()
    assert sorted(path.name for path in (tmp_path / "new").rglob("*")) == ["own"]


def test_parents_of_others_stay(homes: list[Hierarchy], tmp_path: Path) -> None:
    (tmp_path / "new/own/theirs").mkdir()
    step = cgroups.make(StepLimits(parent="theirs"), "x")
    assert step.made == []
    assert step.remove()
    assert (tmp_path / "new/own/theirs").is_dir()


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("a/../b", 'cgroup parent "a/../b" must not contain ".."'),
        ("file", "cgroup parent: {}/new/own/file is a file of the kernel"),
        ("x" * 300, "cgroup parent: {}/new/own/" + "x" * 300 + ": File name too long"),
    ],
)
def test_parents_that_cannot_be(
    homes: list[Hierarchy], tmp_path: Path, parent: str, message: str
) -> None:
    (tmp_path / "new/own/file").write_text("")
    with pytest.raises(Fault) as caught:
        cgroups.make(StepLimits(parent=parent), "x")
    assert (caught.value.kind, caught.value.message) == (USER, message.format(tmp_path))
    assert sorted(path.name for path in (tmp_path / "new/own").iterdir()) == ["file"]


# --- a place by what /proc says ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "own", "place"),
    [
        ("/", "/", "/c"),
        ("/", "/a", "/c/a"),
        ("/a", "/a", "/c"),
        ("/a", "/a/b", "/c/b"),
        ("/a", "/ab", "/c"),
        ("/a", "/", "/c"),
    ],
)
def test_the_own_cgroup_is_seen_from_the_root_of_the_mount(root: str, own: str, place: str) -> None:
    mounts = f"30 20 0:26 {root} /c rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
    (one,) = discover(f"0::{own}\n", mounts)
    assert (one.version, one.top, one.own, one.home) == (2, "/c", place, place)
    assert (one.controllers, one.problem) == ((), "")


def test_the_first_mount_of_controllers_counts() -> None:
    mounts = (
        "1 2 0:1 / /first rw - cgroup cgroup rw,pids\n"
        "1 2 0:1 / /second rw - cgroup cgroup rw,pids\n"
        "1 2 0:1 / /odd\\011tab\\012line\\134 rw - cgroup cgroup rw,freezer\n"
        "1 2 0:1 / /short rw - cgroup cgroup\n"
        "1 2 0:1 / /foreign rw - cgroup cgroup rw,memory\n"
    )
    seen = discover("2:pids:/\n1:freezer:/\n", mounts)
    assert [(one.top, one.controllers) for one in seen] == [
        ("/first", ("pids",)),
        ("/odd\ttab\nline\\", ("freezer",)),
    ]


def offers(place: Path, controllers: str, enabled: str = "") -> None:
    """Make a cgroup of version 2 by its files."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "cgroup.controllers").write_text(controllers)
    (place / "cgroup.subtree_control").write_text(enabled)
    (place / "cgroup.procs").write_text("")


def version_2(tmp_path: Path, own: str = "/own") -> Hierarchy:
    return Hierarchy(2, str(tmp_path), str(tmp_path) + own, ())


def test_the_home_is_the_cgroup_that_offers_most(tmp_path: Path) -> None:
    offers(tmp_path / "own", "cpuset memory io", "memory")
    offers(tmp_path, "cpu memory pids io", "pids cpu memory")
    (one,) = usable([version_2(tmp_path)])
    assert (one.home, one.controllers, one.problem) == (
        str(tmp_path),
        ("memory", "cpu", "pids"),
        "",
    )
    # What was not there to be had was asked for.
    assert (tmp_path / "own/cgroup.subtree_control").read_text() == "+cpuset"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "pids cpu memory"


def test_of_homes_that_offer_as_much_the_own_one_counts(tmp_path: Path) -> None:
    offers(tmp_path / "own", "pids memory", "memory pids")
    offers(tmp_path, "memory pids", "pids memory")
    (one,) = usable([version_2(tmp_path)])
    assert (one.home, one.controllers) == (f"{tmp_path}/own", ("memory", "pids"))


def test_the_cgroup_above_the_top_is_never_one(tmp_path: Path) -> None:
    offers(tmp_path, "pids", "pids")
    offers(tmp_path / "top", "")
    top = str(tmp_path / "top")
    assert usable([Hierarchy(2, top, top, ())]) == []


def test_a_controller_that_cannot_be_enabled_is_the_problem(tmp_path: Path) -> None:
    offers(tmp_path / "own", "pids")
    (tmp_path / "own/cgroup.subtree_control").unlink()
    (tmp_path / "own/cgroup.subtree_control").symlink_to("/proc/self/oom_score_adj")
    (one,) = usable([version_2(tmp_path)])
    assert one.controllers == ()
    assert one.home == f"{tmp_path}/own"
    assert one.problem == f"{tmp_path}/own: cannot enable pids: Invalid argument"
    # Where the one above has it, that is none.
    offers(tmp_path, "pids", "pids")
    (one,) = usable([version_2(tmp_path)])
    assert (one.home, one.controllers, one.problem) == (str(tmp_path), ("pids",), "")


def test_version_1_is_had_where_it_can_be_written_to(tmp_path: Path) -> None:
    there = Hierarchy(1, str(tmp_path), str(tmp_path), ("pids",))
    gone = Hierarchy(1, str(tmp_path), str(tmp_path / "gone"), ("cpu",))
    assert usable([there, gone, version_2(tmp_path)]) == [there, gone]
    assert (there.problem, gone.problem) == ("", f"{tmp_path}/gone is not writable")


def test_cgroups_of_dead_zygotes_go_after_a_minute(tmp_path: Path) -> None:
    for name in ("pybuild-1-1", "pybuild-2-1", "others"):
        (tmp_path / name).mkdir()
    (tmp_path / "pybuild-2-1/full").mkdir()
    made = (tmp_path / "pybuild-1-1").stat().st_ctime
    remove_stale(str(tmp_path), made + 60)
    assert len(list(tmp_path.iterdir())) == 3
    later = max(path.stat().st_ctime for path in tmp_path.iterdir()) + 61
    remove_stale(str(tmp_path), later)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["others", "pybuild-2-1"]
    remove_stale(str(tmp_path / "none"), later)
