"""Limits of steps as they are asked for [BLD-24]."""

from __future__ import annotations

import pytest

from pybuild.commandline.building import BUILD
from pybuild.commandline.parser import parse
from pybuild.model.errors import UsageError
from pybuild.model.ops import StepSettings
from pybuild.model.resources import Resources, parse_resources
from pybuild.model.stepoptions import settings_of_flags


def _settings(*words: str) -> StepSettings:
    return settings_of_flags(parse(words, BUILD.options).many)


def test_limits_are_read_by_their_names() -> None:
    given = {
        "memory": "67108864",
        "memory-swap": "-1",
        "cpu-shares": "512",
        "cpu-period": "",
        "cpuset-cpus": "0-2,4",
    }
    assert parse_resources(given, parent="builds") == Resources(
        memory_bytes=64 << 20,
        memory_swap_bytes=-1,
        cpu_shares=512,
        cpuset_cpus="0-2,4",
        parent="builds",
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"memory": "-1"}, "invalid memory value: -1: must be > 0"),
        ({"memory": "1.5"}, "invalid memory value: 1.5"),
        ({"memory": "1000"}, "at least 4 MiB"),
        ({"memory-swap": "-2"}, r"invalid memory-swap value: -2: must be -1 \(unlimited\) or > 0"),
        ({"memory-swap": "67108864"}, "set memory too"),
        ({"memory": "67108864", "memory-swap": "5"}, "less than memory, which it includes"),
        ({"cpu-quota": "-2"}, "invalid cpu-quota value: -2: must be -1"),
        ({"cpuset-cpus": "0-"}, "invalid cpuset-cpus: 0-"),
        ({"cpuset-cpus": "3-1"}, "invalid cpuset-cpus: 3-1"),
        ({"cpuset-mems": "0\n"}, "invalid cpuset-mems"),
        ({"gpus": "1"}, 'unknown resource "gpus": one of memory, memory-swap, .*, pids'),
        ({"pids": "0"}, "invalid pids value: 0: must be > 0"),
        ({"pids": "-1"}, "invalid pids value: -1: must be > 0"),
        ({"pids": "many"}, "invalid pids value: many"),
    ],
)
def test_limits_that_make_no_sense_are_named(given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_resources(given)


def test_a_parent_cannot_lead_upwards() -> None:
    with pytest.raises(UsageError, match="invalid cgroup-parent"):
        Resources(parent="/a/../..")


def test_flags_take_sizes_and_resource_wins() -> None:
    flags = [
        "--memory=64m",
        "--cpu-shares=",
        "--memory=32m",
        "--resource=memory-swap=1g,cpu-quota=5",
    ]
    assert _settings(*flags).resources == Resources(
        memory_bytes=32 << 20, memory_swap_bytes=1 << 30, cpu_quota_us=5
    )
    assert _settings("-m=64m", "--resource=memory=5m").resources.memory_bytes == 5 << 20
    with pytest.raises(UsageError, match='invalid resource "memory"'):
        _settings("--resource=memory")
    with pytest.raises(UsageError, match='unknown resource "gpu"'):
        _settings("--resource=gpu=1")


def test_who_may_not_leave_a_cgroup_names_only_what_is_below_it() -> None:
    for given, made in (("/", "x/"), ("/a/b/", "x/a/b"), ("a", "x/a")):
        assert Resources(parent=given).within("x").parent == made
    assert Resources(parent="/a").within("") == Resources(parent="/a")
    assert Resources(cpu_shares=1024).within("x").parent == ""
    assert Resources(cpu_shares=1025).within("x").parent == "x/"


@pytest.mark.parametrize("parent", ["..", "a/../b", "a\nb", "a\0", "\x1b", "a" * 1001, "a/" * 16])
def test_parents_that_cannot_be(parent: str) -> None:
    with pytest.raises(UsageError, match="invalid cgroup-parent"):
        Resources(parent=parent)
