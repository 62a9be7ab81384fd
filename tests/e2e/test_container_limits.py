"""Limits of containers: as the kernel has them, as inspect shows them, after updates and restarts [CTR-4, CTR-7, CTR-65]."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.zygote.cgroups import default_pids
from pybuild.executor.zygote.hierarchies import Hierarchy, hierarchies
from pybuild.executor.zygote.limits import weight
from tests.e2e.rootlessnetworks import rootless_machine
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
MIB = 1 << 20
_NETLESS = ("--network", "none")


def places(pid: int) -> Mapping[str, tuple[Hierarchy, Path]]:
    """Return the cgroup of a process for each controller."""
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    own = {name: path for _, names, path in lines for name in names.split(",")}
    found: dict[str, tuple[Hierarchy, Path]] = {}
    for hierarchy in hierarchies():
        for name in hierarchy.controllers:
            path = own["" if hierarchy.version == 2 else name]
            found[name] = (hierarchy, Path(hierarchy.top + path))
    return found


def limit(pid: int, controller: str, old: str, new: str) -> str:
    """Return a limit of a process as the file of the version of cgroups that is here has it."""
    hierarchy, place = places(pid)[controller]
    text = (place / (old if hierarchy.version == 1 else new)).read_text().strip()
    return "max" if text.isdecimal() and int(text) > 1 << 60 else text


def is_old(controller: str) -> bool:
    return any(one.version == 1 and controller in one.controllers for one in hierarchies())


def memory(pid: int) -> tuple[str, str]:
    """Return the limits of memory, and of memory and swap together."""
    most = limit(pid, "memory", "memory.limit_in_bytes", "memory.max")
    swap = limit(pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    if not is_old("memory") and swap != "max":
        swap = str(int(swap) + int(most))
    return most, swap


def processor(pid: int) -> tuple[str, str, str]:
    """Return the shares, the period and the quota."""
    shares = limit(pid, "cpu", "cpu.shares", "cpu.weight")
    if is_old("cpu"):
        files = ("cpu.cfs_period_us", "cpu.cfs_quota_us")
        return (shares, *(limit(pid, "cpu", one, one) for one in files))  # type: ignore[return-value]
    quota, period = limit(pid, "cpu", "", "cpu.max").split()
    return shares, period, "-1" if quota == "max" else quota


def shares(number: int) -> str:
    return str(number if is_old("cpu") else weight(number))


def pid_of(machine: Pybuild, name: str) -> int:
    return int(machine("inspect", "-f", "{{.State.Pid}}", name).out)


def host_config(machine: Pybuild, name: str) -> dict[str, Any]:
    (document,) = json.loads(machine("inspect", name).out)
    return dict(document["HostConfig"])


@pytest.fixture
def limited(machine: Pybuild) -> Generator[Pybuild]:
    if os.geteuid() != 0:
        pytest.skip("needs root, whom cgroups belong to")
    missing = {"memory", "cpu", "cpuset", "pids"}
    missing -= {name for one in hierarchies() if not one.problem for name in one.controllers}
    if missing:
        pytest.skip(f"no cgroups for {', '.join(sorted(missing))}")
    yield machine


@pytest.mark.root
def test_the_kernel_and_inspect_have_what_was_given(limited: Pybuild) -> None:
    given = {
        "cgroup-parent": f"tests-{os.getpid()}/deep",
        "cpu-period": "50000",
        "cpu-quota": "25000",
        "cpu-shares": "512",
        "cpuset-cpus": "0",
        "cpuset-mems": "0",
        "memory": "64m",
        "memory-swap": "96m",
    }
    options = [word for name, text in given.items() for word in (f"--{name}", text)]
    limited("run", "-d", "--name", "one", *_NETLESS, *options, "base", "sleep", "600")

    def see() -> None:
        pid = pid_of(limited, "one")
        assert memory(pid) == (str(64 * MIB), str(96 * MIB))
        assert processor(pid) == (shares(512), "50000", "25000")
        assert limit(pid, "cpuset", *["cpuset.cpus"] * 2) == "0"
        assert limit(pid, "cpuset", *["cpuset.mems"] * 2) == "0"
        assert f"/tests-{os.getpid()}/deep/" in str(places(pid)["pids"][1])
        allowed = limited("exec", "one", "cat", "/proc/self/status").out
        assert "\nCpus_allowed_list:\t0\n" in allowed

    see()
    host = host_config(limited, "one")
    assert host["CgroupParent"] == given["cgroup-parent"]
    assert (host["CpuPeriod"], host["CpuQuota"], host["CpuShares"]) == (50000, 25000, 512)
    assert (host["CpusetCpus"], host["CpusetMems"], host["NanoCpus"]) == ("0", "0", 0)
    assert (host["Memory"], host["MemorySwap"]) == (64 * MIB, 96 * MIB)
    limited("restart", "-t", "0", "one")
    see()
    parents = {place.parents[1] for _, place in places(pid_of(limited, "one")).values()}
    limited("rm", "-f", "one")
    wait_until(lambda: not any(path.exists() for path in parents))


@pytest.mark.root
def test_memory_has_as_much_swap_again_unless_something_else_was_said(limited: Pybuild) -> None:
    """dockerd's default; 0 is as if nothing was given, and -1 needs no limit of memory."""
    run = ("run", "-d", *_NETLESS)
    most = str(64 * MIB)
    for name, options, kernel, shown in (
        ("plain", ["-m", "64m"], (most, str(128 * MIB)), 128 * MIB),
        ("zero", ["-m", "64m", "--memory-swap", "0"], (most, str(128 * MIB)), 128 * MIB),
        ("none", ["-m", "64m", "--memory-swap", "64m"], (most, most), 64 * MIB),
        ("open", ["-m", "64m", "--memory-swap", "-1"], (most, "max"), -1),
        ("alone", ["--memory-swap", "-1", "--cpu-quota", "-1"], ("max", "max"), -1),
        ("nothing", ["-m", "0", "--cpu-shares", "0", "--cpu-period", "0"], ("max", "max"), 0),
    ):
        limited(*run, "--name", name, *options, "base", "sleep", "600")
        assert memory(pid_of(limited, name)) == kernel, name
        assert host_config(limited, name)["MemorySwap"] == shown, name


@pytest.mark.root
def test_an_update_gives_and_takes_limits_of_one_that_was_made_without(limited: Pybuild) -> None:
    """[CTR-65] The kernel compares memory with swap; what has only a half of a pair changed keeps the other."""
    limited("run", "-d", "--name", "one", *_NETLESS, "-m", "64m", "base", "sleep", "600")
    pid = pid_of(limited, "one")

    def update(*options: str) -> str:
        return limited("update", *options, "one", code=None).err

    assert update("--memory", "128m") == ""
    assert memory(pid) == (str(128 * MIB), str(128 * MIB))
    assert "update the memoryswap at the same time" in update("--memory", "256m")
    assert update("--memory", "256m", "--memory-swap", "512m") == ""
    assert memory(pid) == (str(256 * MIB), str(512 * MIB))
    assert update("--memory-swap", "300m") == ""
    assert memory(pid) == (str(256 * MIB), str(300 * MIB))
    assert "should be larger than memory limit" in update("--memory-swap", "10m")
    assert update("--memory", "32m") == update("--memory-swap", "-1") == ""
    assert memory(pid) == (str(32 * MIB), "max")
    assert update("--cpus", "0.5") == ""
    assert processor(pid) == (shares(1024), "100000", "50000")
    assert host_config(limited, "one")["NanoCpus"] == 500_000_000
    assert "Period cannot be updated as NanoCPUs" in update("--cpu-period", "50000")
    assert update("--cpu-shares", "300", "--cpuset-cpus", "0") == ""
    assert processor(pid)[0] == shares(300)
    assert limit(pid, "cpuset", *["cpuset.cpus"] * 2) == "0"
    assert update("--pids-limit", "50") == ""
    assert limit(pid, "pids", *["pids.max"] * 2) == "50"
    assert update("--pids-limit", "-1") == ""
    assert limit(pid, "pids", *["pids.max"] * 2) == str(default_pids())
    limited("run", "-d", "--name", "two", *_NETLESS, "base", "sleep", "600")
    assert limited("update", "--cpu-quota", "20000", "two").err == ""
    assert limited("update", "--cpu-period", "50000", "two").err == ""
    assert processor(pid_of(limited, "two")) == (shares(1024), "50000", "20000")
    error = limited("update", "--cpus", "1", "two", code=1).err
    assert "Nano CPUs cannot be updated as CPU Period" in error
    error = limited("update", "--memory-swap", "64m", "two", code=1).err
    assert "always set the Memory limit" in error


def test_sizes_of_shared_memory_and_ulimits_are_its_own(machine: Pybuild) -> None:
    script = "stat -f -c '%b %S' /dev/shm; ulimit -n; ulimit -Hn; ulimit -c"
    options = ("--shm-size", "1m", "--ulimit", "nofile=100:200", "--ulimit", "core=0")
    (line, *limits) = machine(
        "run", "--name", "one", *_NETLESS, *options, "base", "sh", "-c", script
    ).out.splitlines()
    blocks, size = map(int, line.split())
    assert (blocks * size, limits) == (MIB, ["100", "200", "0"])
    host = host_config(machine, "one")
    assert host["ShmSize"] == MIB
    assert host["Ulimits"] == [
        {"Name": "core", "Soft": 0, "Hard": 0},
        {"Name": "nofile", "Soft": 100, "Hard": 200},
    ]
    assert machine("start", "-a", "one").out.splitlines()[1:] == limits
    line = machine("run", "--rm", "--shm-size", "0", *_NETLESS, "base", "sh", "-c", script).out
    blocks, size = map(int, line.splitlines()[0].split())
    assert blocks * size == 64 * MIB


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cpuset-mems", "99"], "requested memory nodes are not available - requested 99"),
        (["--cpuset-cpus", "9999"], "requested CPUs are not available - requested 9999"),
        (["--cpuset-cpus", "1-0"], "invalid cpuset-cpus: 1-0"),
        (["--cpu-shares", "-1"], "invalid cpu-shares value: -1"),
        (["--cpu-period", "10"], "CPU cfs period can not be less than 1ms"),
        (["--memory-swap", "64m"], "set memory too"),
        (["--shm-size", "-1"], 'invalid shm-size "-1"'),
        (["--ulimit", "nofile=200:100"], "soft limit is above the hard limit"),
        (["--ulimit", "nofil=1"], 'ulimit "nofil" is not one of'),
        (["--cgroup-parent", "a/../b"], "invalid cgroup-parent"),
    ],
)
def test_limits_that_cannot_be_had_are_refused(
    machine: Pybuild, options: list[str], words: str
) -> None:
    assert words in machine("run", "--rm", *_NETLESS, *options, "base", "true", code=None).err
    assert machine("ps", "-aq").out == ""


@pytest.mark.root
def test_a_plain_user_is_told_which_limits_nobody_enforces() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with rootless_machine() as machine:
        options = ("--shm-size", "1m", "--ulimit", "nofile=100", "--cpu-shares", "512", "-m", "64m")
        script = "ulimit -n; stat -f -c '%b %S' /dev/shm"
        done = machine("run", "--rm", *_NETLESS, *options, "base", "sh", "-c", script)
        limits, size = done.out.splitlines()
        assert (limits, prod(map(int, size.split()))) == ("100", MIB)
        for controller, flag in (("cpu", "cpu-shares"), ("memory", "memory")):
            told = f"no {controller} cgroup here, so {flag} is not enforced"
            assert told in done.err or not is_old(controller)
