"""Further processes of a step: exec."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.steps.spec import StepExit, StepSpec
from pybuild.executor.workers.workers import RunningStep, Workers
from pybuild.executor.zygote import joining, syscalls
from pybuild.executor.zygote.faults import Fault
from pybuild.model.errors import EnvironmentFault, UserError
from tests.executor.filetrees import in_child
from tests.executor.sandbox_helpers import Box, make_base, processes_with, skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
_NULL = "/dev/null"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless_possible()
    return make_base(tmp_path_factory.mktemp("joining") / "base")


@pytest.fixture
def box(tmp_path: Path, base: Path) -> Box:
    return Box(tmp_path, (base,), Workers())


class Site:
    """A step that waits, for others to be started beside it."""

    def __init__(self, workers: Workers, spec: StepSpec, running: RunningStep) -> None:
        self.workers = workers
        self.spec = spec
        self.running = running

    async def run(self, *args: str, **changes: Any) -> tuple[StepExit, str]:
        """Run a process beside it; return how it ended, and what it wrote."""
        written = bytearray()
        spec = self.spec._replace(args=args, **changes)
        ended = await self.workers.run_step(
            spec, lambda _, data: written.extend(data), beside=self.running
        )
        return ended, written.decode()


@asynccontextmanager
async def waiting(box: Box, script: str = "", **changes: Any) -> AsyncGenerator[Site]:
    """Run a step that waits until the context ends, and *script* before."""
    workers = Workers(rootless=changes.pop("rootless", None))
    running: list[RunningStep] = []
    ready = asyncio.Event()
    spec = box.spec("/bin/sh", "-c", f"{script}\necho x; sleep 6{os.getpid()}; true", **changes)
    try:
        step = asyncio.create_task(
            workers.run_step(spec, lambda _s, _d: ready.set(), on_start=running.append)
        )
        await asyncio.wait({step, asyncio.create_task(ready.wait())}, return_when="FIRST_COMPLETED")
        if step.done():
            step.result()
        try:
            yield Site(workers, spec, running[0])
        finally:
            running[0].signal(9)
            await step
    finally:
        await workers.close()


@pytest.mark.parametrize("rootless", [False, True])
def test_a_further_process_is_in_the_tree_and_the_namespaces_of_the_step(
    box: Box, rootless: bool
) -> None:
    async def body() -> None:
        namespaces = "for n in /proc/self/ns/*; do readlink $n; done"
        script = f"echo here > /made; {namespaces} > /own"
        async with waiting(box, script, hostname="one", rootless=rootless) as site:
            ended, text = await site.run("/bin/cat", "/made")
            assert (ended.status, text) == (0, "here\n")
            _, name = await site.run("/bin/hostname")
            assert name == "one\n"
            _, others = await site.run("/bin/sh", "-c", namespaces)
            _, own = await site.run("/bin/cat", "/own")
            assert others.split() == own.split() != []
            _, processes = await site.run("/bin/ps", "-o", "args")
            assert "sleep 6" in processes

    asyncio.run(body())


def test_it_has_no_more_rights_than_the_step(box: Box) -> None:
    async def body() -> None:
        rights = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status"
        async with waiting(box, f"{rights} > /rights") as site:
            ended, text = await site.run("/bin/sh", "-c", f"{rights}; ls /proc/self/fd | wc -l")
            _, known = await site.run("/bin/cat", "/rights")
            assert ended.status == 0
            # stdin, stdout, stderr, the directory that ls reads
            assert text.splitlines() == [*known.splitlines(), "4"]

    asyncio.run(body())


def test_nobody_of_the_step_looks_into_it_before_it_is_its_program(box: Box) -> None:
    """The window is short: the step looks at each process number as fast as it can."""

    async def body() -> None:
        look = (
            "(while :; do for p in /proc/[0-9]*; do "
            "readlink $p/exe; done; done >> /seen 2>/dev/null) &"
        )
        async with waiting(box, look) as site:
            for _ in range(10):
                assert (await site.run("/bin/true"))[0].status == 0
            _, seen = await site.run("/bin/sh", "-c", "tr ' ' '\\n' < /seen | grep -c python")
            assert seen.strip() == "0"

    asyncio.run(body())


def test_its_user_its_directory_and_its_variables_are_its_own(box: Box) -> None:
    async def body() -> None:
        async with waiting(box, env=("A=1",)) as site:
            ended, text = await site.run(
                "/bin/sh",
                "-c",
                "id -u; id -g; pwd; echo $A$B",
                user="app",
                cwd="/etc",
                env=("B=2",),
            )
            assert (ended.status, text) == (0, "1000\n1001\n/etc\n2\n")
            with pytest.raises(UserError, match="unable to find user nobody"):
                await site.run("/bin/true", user="nobody")
            with pytest.raises(UserError, match="is not absolute"):
                await site.run("/bin/true", cwd="etc")
            ended, text = await site.run("missing")
            assert (ended.status, text) == (
                127,
                'exec: "missing": executable file not found in $PATH\n',
            )

    asyncio.run(body())


def test_it_ends_with_the_step_and_not_the_other_way_round(box: Box) -> None:
    async def body() -> None:
        mark = f"7{os.getpid()}"
        async with waiting(box) as site:
            assert (await site.run("/bin/false"))[0].status == 1
            begun = asyncio.Event()
            spec = site.spec._replace(args=("/bin/sh", "-c", f"echo x; sleep {mark}; true"))
            other = asyncio.create_task(
                site.workers.run_step(spec, lambda _s, _d: begun.set(), beside=site.running)
            )
            await begun.wait()
            site.running.signal(9)
            assert (await other).status == 137
            with pytest.raises(UserError, match="the container has ended"):
                await site.run("/bin/true")
        assert processes_with(f"sleep\0{mark}") == []

    asyncio.run(body())


def test_its_default_signals_end_it_and_it_is_cancelled_alone(box: Box) -> None:
    async def body() -> None:
        async with waiting(box) as site:
            seen: list[RunningStep] = []
            begun = asyncio.Event()
            spec = site.spec._replace(args=("/bin/sh", "-c", "echo x; sleep 1000"))

            def run() -> asyncio.Task[StepExit]:
                begun.clear()
                return asyncio.create_task(
                    site.workers.run_step(
                        spec,
                        lambda _s, _d: begun.set(),
                        on_start=seen.append,
                        beside=site.running,
                    )
                )

            task = run()
            await begun.wait()
            seen[-1].signal(1)
            assert (await task).status == 129
            task = run()
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await site.run("/bin/true"))[0].status == 0

    asyncio.run(body())


def test_all_end_when_the_workers_are_closed(box: Box) -> None:
    """The first process of a namespace is gone only when those that joined it were waited for."""

    async def body() -> None:
        mark = f"8{os.getpid()}"
        async with waiting(box) as site:
            begun = asyncio.Event()
            spec = site.spec._replace(args=("/bin/sh", "-c", f"echo x; sleep {mark}; true"))
            other = asyncio.create_task(
                site.workers.run_step(spec, lambda _s, _d: begun.set(), beside=site.running)
            )
            await begun.wait()
            await site.workers.close()
            with pytest.raises(EnvironmentFault, match="was stopped"):
                await other
        assert processes_with(f"sleep\0{mark}") == []

    with pytest.raises(EnvironmentFault, match="was stopped"):
        asyncio.run(body())


def test_it_shares_the_steps_cgroup(box: Box) -> None:
    async def body() -> None:
        async with waiting(box, "cat /proc/self/cgroup > /own") as site:
            _, other = await site.run("/bin/cat", "/proc/self/cgroup")
            _, own = await site.run("/bin/cat", "/own")
            assert other == own != ""

    asyncio.run(body())


def never(_own: int) -> bool:
    return False


@pytest.mark.parametrize("may_return", [True, False])
def test_who_forks_beside_a_step_has_its_other_children_where_it_is(
    monkeypatch: pytest.MonkeyPatch, may_return: bool
) -> None:
    """By root it is one fork; also when the step has ended meanwhile nothing of it is left."""
    skip_unless_possible()
    if not may_return:
        monkeypatch.setattr(joining, "may_return_to", never)

    def work() -> None:
        own = os.readlink("/proc/self/ns/pid")
        first, beside = syscalls.clone3(syscalls.CLONE_NEWPID)
        if first == 0:
            while True:
                signal.pause()
        try:
            second, pidfd = joining.clone_beside(beside, 0, -1)
            if second == 0:
                os._exit(os.getpid() != 2)
            os.close(pidfd)
            assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 0
            assert os.readlink("/proc/self/ns/pid_for_children") == own
        finally:
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
        with pytest.raises(Fault, match="the container has ended"):
            joining.clone_beside(beside, 0, -1)
        assert os.readlink("/proc/self/ns/pid_for_children") == own
        os.close(beside)

    in_child(work)  # of one thread: another one of the test's could hold what Python forks with
