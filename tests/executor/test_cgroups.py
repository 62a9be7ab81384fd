"""Limits of steps by cgroups: what is written where, what they do, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pybuild.executor.steps.spec import StepLimits
from pybuild.executor.workers.workers import Workers
from pybuild.executor.zygote import hierarchies, limits
from pybuild.model.errors import UserError
from pybuild.model.options import LIMITS
from pybuild.model.resources import Resources
from tests.executor.filetrees import in_child
from tests.executor.sandbox_helpers import (
    HOST_PROGRAMS,
    Box,
    make_base,
    run_in,
    skip_unless_possible,
)

sandbox = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless_possible()
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def box(base: Path, tmp_path: Path) -> Iterator[Box]:
    workers = Workers()
    yield Box(tmp_path, (base,), workers)
    asyncio.run(workers.close())


def homes(controller: str) -> list[Path]:
    """Return where steps' cgroups with *controller* are made; skips where they cannot be."""
    found = [
        Path(h.home)
        for h in hierarchies.hierarchies()
        if controller in h.controllers and not h.problem and os.access(h.home, os.W_OK)
    ]
    if not found:
        pytest.skip(f"no {controller} cgroup to make steps' own in")
    return found


def left() -> list[str]:
    """Return the cgroups of steps of this process's zygotes, and of those that are gone."""
    found = [p for h in hierarchies.hierarchies() if not h.problem for p in _steps(Path(h.home))]
    return [str(path) for path in found if _parent(path.name.split("-")[1]) in (os.getpid(), None)]


def none_is_left() -> bool:
    """Wait for the zygote, which tells of a step's end before it removes the step's cgroups."""
    deadline = time.monotonic() + 60
    while left():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _steps(home: Path) -> list[Path]:
    return list(home.glob("pybuild-[0-9]*"))


def _parent(pid: str) -> int | None:
    try:
        return int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


# --- what is written [SBX-13] ---------------------------------------------------------------------

ALL = StepLimits(
    memory_bytes=64 << 20,
    memory_swap_bytes=96 << 20,
    cpu_shares=512,
    cpu_period_us=50_000,
    cpu_quota_us=25_000,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    pids=100,
    reserved_bytes=32 << 20,
    swappiness="0",
)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            1,
            {
                "memory.limit_in_bytes": "67108864",
                "memory.memsw.limit_in_bytes": "100663296",
                "memory.soft_limit_in_bytes": "33554432",
                "memory.swappiness": "0",
                "pids.max": "100",
                "cpu.shares": "512",
                "cpu.cfs_period_us": "50000",
                "cpu.cfs_quota_us": "25000",
                "cpuset.cpus": "0-1",
                "cpuset.mems": "0",
            },
        ),
        (
            2,
            {
                "memory.max": "67108864",
                "memory.swap.max": "33554432",
                "memory.low": "33554432",
                "memory.swappiness": "0",
                "pids.max": "100",
                "cpu.weight": "20",
                "cpu.max": "25000 50000",
                "cpuset.cpus": "0-1",
                "cpuset.mems": "0",
            },
        ),
    ],
)
def test_limits_are_written_as_each_version_has_them(
    version: int, expected: dict[str, str]
) -> None:
    written = [
        item for name in limits.controllers(ALL) for item in limits.files(name, version, ALL)
    ]
    assert {file: text for file, text, _ in written} == expected


def test_only_what_is_asked_for_needs_a_controller() -> None:
    assert limits.controllers(StepLimits()) == ["memory", "pids"]
    assert limits.controllers(StepLimits(cpuset_mems="0")) == ["memory", "pids", "cpuset"]
    assert limits.files("memory", 2, StepLimits(memory_swap_bytes=-1)) == [
        ("memory.swap.max", "max", "memory-swap")
    ]
    assert limits.files("cpu", 2, StepLimits(cpu_period_us=10_000)) == [
        ("cpu.max", "max 10000", "cpu-period")
    ]


def test_limits_have_the_names_of_their_options() -> None:
    values: dict[str, Any] = {option.field: 1 for option in LIMITS.values()}
    given = StepLimits(**values)
    names = [name for kind in limits.controllers(given) for name in limits.flags(kind, given)]
    assert sorted(names) == sorted(LIMITS)
    of_all = tuple(field.name for field in fields(Resources))
    assert StepLimits._fields == (*of_all, "reserved_bytes", "swappiness")


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (1, 1)])
def test_shares_become_weights_as_runtimes_turn_them(shares: int, weight: int) -> None:
    assert limits.weight(shares) == weight


def test_processes_are_bounded_by_memory() -> None:
    assert [limits.default_pids(n) for n in (-1, 4096, 64_000, 1_000_000)] == [
        *(1024, 1024, 8000, 16384),
    ]


# --- where [SBX-13] -------------------------------------------------------------------------------

V1_MOUNTS = (
    "30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 20 0:27 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 20 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "33 20 0:29 / /mnt/with\\040space rw - cgroup cgroup rw,pids\n"
    "34 20 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
)
V1_OWN = (
    "5:cpu,cpuacct:/a/b\n4:memory:/docker/x/sub\n3:pids:/\n2:name=systemd:/user.slice\n0::/user\n"
)


def test_hierarchies_are_found_by_what_proc_says() -> None:
    found = {(h.version, h.own): h.controllers for h in hierarchies.discover(V1_OWN, V1_MOUNTS)}
    assert found == {
        (1, "/sys/fs/cgroup/cpu,cpuacct/a/b"): ("cpu",),
        (1, "/sys/fs/cgroup/memory/sub"): ("memory",),
        (1, "/mnt/with space"): ("pids",),
        (2, "/sys/fs/cgroup/unified/user"): (),
    }


def test_without_cgroups_nothing_is_found() -> None:
    assert hierarchies.discover("", "") == []
    assert hierarchies.discover("0::/x\n", "20 1 0:3 / /proc rw - proc proc rw\n") == []


def test_a_step_begins_in_a_cgroup_of_version_2(box: Box) -> None:
    """Version 2 takes processes, too, on a machine whose controllers belong to version 1."""
    skip_unless_possible()
    own, mounts = (Path(f"/proc/self/{name}").read_text() for name in ("cgroup", "mountinfo"))
    trees = [h for h in hierarchies.discover(own, mounts) if h.version == 2]
    if not trees or not os.access(trees[0].own, os.W_OK):
        pytest.skip("no cgroup version 2 to write to")
    from pybuild.executor.zygote import syscalls

    place = Path(trees[0].own) / f"pybuild-test-{os.getpid()}"
    place.mkdir()

    def work() -> None:
        fd = os.open(place, os.O_PATH | os.O_DIRECTORY)
        pid, _ = syscalls.clone3(0, cgroup_fd=fd)
        if pid == 0:
            with open("/proc/self/cgroup", "rb") as file:
                os._exit(0 if f"/{place.name}\n".encode() in file.read() else 1)
        assert os.waitpid(pid, 0)[1] == 0

    try:
        in_child(work)  # of one thread
    finally:
        place.rmdir()


# --- what they do ---------------------------------------------------------------------------------


class TestSteps:
    pytestmark = sandbox

    def test_a_step_has_its_own_and_does_not_see_where(self, box: Box) -> None:
        homes("pids")
        done = box.sh("cat /proc/self/cgroup", limits=StepLimits())
        pids = [line for line in done.out.splitlines() if ":pids:" in line or line[:3] == "0::"]
        assert pids
        assert "pybuild" not in done.out
        assert none_is_left()

    def test_memory_is_limited_and_its_end_is_told(self, box: Box) -> None:
        homes("memory")
        script = "x = bytearray(200 << 20); print('had it')"
        done = box.run(
            *("/usr/bin/python3", "-I", "-S", "-c", script),
            mounts=HOST_PROGRAMS,
            limits=StepLimits(memory_bytes=48 << 20, memory_swap_bytes=48 << 20),
        )
        assert (done.status, done.out) == (137, "")
        assert done.ended.oom_killed
        assert 40 << 20 < done.ended.peak_memory_bytes <= 48 << 20

    @pytest.mark.slow
    def test_peak_memory_is_that_of_all_processes(self, box: Box) -> None:
        homes("memory")
        script = "x = bytearray(30 << 20); import os; p = os.fork(); y = bytearray(30 << 20)"
        script += "; import time; time.sleep(0.2); p and os.wait()"
        done = box.run("/usr/bin/python3", "-I", "-S", "-c", script, mounts=HOST_PROGRAMS)
        assert (done.status, done.err) == (0, "")
        assert done.ended.peak_memory_bytes > 85 << 20

    @pytest.mark.slow
    def test_an_oom_of_another_step_is_not_ours(self, box: Box) -> None:
        homes("memory")

        async def body() -> None:
            eater = "x = bytearray(200 << 20)"
            hungry = box.spec(
                *("/usr/bin/python3", "-I", "-S", "-c", eater),
                mounts=HOST_PROGRAMS,
                limits=StepLimits(memory_bytes=32 << 20, memory_swap_bytes=32 << 20),
            )
            failing = box.spec("/bin/sh", "-c", "sleep 0.5; exit 1")
            first, second = await asyncio.gather(
                run_in(box.workers, hungry), run_in(box.workers, failing)
            )
            assert (first.ended.oom_killed, second.ended.oom_killed) == (True, False)
            await box.workers.close()

        asyncio.run(body())

    @pytest.mark.slow
    def test_forking_without_end_ends(self, box: Box) -> None:
        homes("pids")
        done = box.sh("f() { f | f & }; f; sleep 0.5; echo alive", limits=StepLimits(pids=60))
        assert done.ended.out_of_processes
        assert none_is_left()
        assert box.run("true").status == 0

    @pytest.mark.slow
    def test_processors_are_limited(self, box: Box) -> None:
        homes("cpu")
        spin = "import time; e = time.monotonic() + 0.5\nwhile time.monotonic() < e: pass\n"
        spin += "print(time.process_time())"
        done = box.run(
            *("/usr/bin/python3", "-I", "-S", "-c", spin),
            mounts=HOST_PROGRAMS,
            limits=StepLimits(cpu_period_us=20_000, cpu_quota_us=4_000),
        )
        assert float(done.out) < 0.3

    def test_processors_are_chosen(self, box: Box) -> None:
        homes("cpuset")
        limits = StepLimits(cpuset_cpus="0", cpuset_mems="0")
        done = box.sh("grep Cpus_allowed_list /proc/self/status", limits=limits)
        assert done.out.split() == ["Cpus_allowed_list:", "0"]
        with pytest.raises(UserError, match="invalid cpuset-cpus: 9999"):
            box.sh("true", limits=StepLimits(cpuset_cpus="9999"))
        assert none_is_left()

    @pytest.mark.slow
    def test_a_step_that_is_refused_is_told_of_on_the_loop_of_servers_too(self, box: Box) -> None:
        """uvloop stops to watch a channel that was closed with the request unread in it."""
        homes("pids")

        async def body() -> None:
            for number in range(20):
                limits = StepLimits(parent=f"tests-{os.getpid()}/cgroup.procs/{number}")
                spec = box.spec("true", limits=limits)
                async with asyncio.timeout(60):
                    with pytest.raises(UserError, match="is a file of the kernel"):
                        await box.workers.run_step(spec, lambda _s, _d: None)
            await box.workers.close()

        uvloop.run(body())
        assert not [h for h in homes("pids") if (h / f"tests-{os.getpid()}").exists()]

    def test_a_parent_is_made_and_removed(self, box: Box) -> None:
        (home, *_) = homes("pids")
        limits = StepLimits(parent=f"tests-{os.getpid()}/deep")

        async def body() -> None:
            seen = asyncio.Event()
            spec = box.spec("/bin/sh", "-c", "echo x; sleep 0.2; true", limits=limits)
            step = box.workers.run_step(spec, lambda _s, _d: seen.set())
            task = asyncio.create_task(step)
            await seen.wait()
            inside = _steps(home / f"tests-{os.getpid()}/deep")
            assert len(inside) == 1
            assert (inside[0] / "cgroup.procs").read_text()
            assert (await task).status == 0
            await box.workers.close()

        asyncio.run(body())
        assert not (home / f"tests-{os.getpid()}").exists()

    def test_a_parent_goes_with_the_last_that_is_in_it(self, box: Box) -> None:
        """The last one is a process that was made ahead, where steps followed each other."""
        (home, *_) = homes("pids")
        parent = f"tests-{os.getpid()}/made/ahead"

        async def body() -> None:
            for _ in range(4):
                spec = box.spec("true", limits=StepLimits(parent=parent))
                assert (await box.workers.run_step(spec, lambda _s, _d: None)).status == 0
            await box.workers.close()

        asyncio.run(body())
        assert not (home / f"tests-{os.getpid()}").exists()

    def test_cgroups_end_with_their_steps_however_these_end(self, box: Box) -> None:
        homes("pids")

        async def body() -> None:
            for pause in (0.0, 0.01, 0.05):
                spec = box.spec("/bin/sh", "-c", "sleep 1000 & sleep 1000; true")
                task = asyncio.create_task(box.workers.run_step(spec, lambda _s, _d: None))
                await asyncio.sleep(pause)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            spec = box.spec("/bin/sh", "-c", "echo x; sleep 1000; true")
            seen = asyncio.Event()
            task = asyncio.create_task(box.workers.run_step(spec, lambda _s, _d: seen.set()))
            await seen.wait()
            await box.workers.close()
            with pytest.raises(Exception, match="was stopped"):
                await task

        asyncio.run(body())
        assert none_is_left()

    def test_a_step_that_makes_cgroups_of_its_own_leaves_none(self, box: Box) -> None:
        (home, *_) = homes("pids")
        script = "mkdir -p /m && mount -t cgroup -o pids none /m && mkdir /m/inner && ls /m | wc -l"
        done = box.sh(script, security="insecure")
        if done.status:
            pytest.skip("pids is not a controller of version 1 here")
        assert none_is_left()
        assert list(home.glob("pybuild-*/inner")) == []


# --- ulimits [SBX-12] -----------------------------------------------------------------------------


class TestUlimits:
    pytestmark = sandbox

    def test_what_may_not_be_raised_is_clamped_and_said(self, box: Box) -> None:
        """[BLD-23] It is a warning of the step, in its output and in how it ended."""
        done = box.sh("ulimit -n; ulimit -Hn", ulimits=(("nofile", 1 << 40, 1 << 40),))
        assert done.status == 0
        (warning,) = done.ended.warnings
        assert warning.startswith(f"ulimit nofile={1 << 40}:{1 << 40} is more than the builder's")
        assert done.err == f"warning: {warning}\n"
        assert len(set(done.out.split())) == 1

    def test_what_may_be_set_is_not_spoken_of(self, box: Box) -> None:
        done = box.sh("ulimit -c; ulimit -n", ulimits=(("core", 0, 0), ("nofile", 64, 64)))
        assert (done.out.split(), done.err, done.ended.warnings) == (["0", "64"], "", ())

    def test_one_clamped_limit_does_not_lose_the_others(self, box: Box) -> None:
        wanted = (("nofile", 1 << 40, 1 << 40), ("core", 0, 0))
        done = box.sh("ulimit -c", ulimits=wanted)
        assert (done.out, len(done.ended.warnings)) == ("0\n", 1)
