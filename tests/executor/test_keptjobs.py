"""Workers that stay for another call: who does, who does not, and when they go."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.files.apply import apply
from pybuild.executor.files.encode import encode_action
from pybuild.executor.files.values import DeltaStack
from pybuild.executor.steps.spec import StepExit
from pybuild.executor.workers.job import RunningJob, job
from pybuild.executor.workers.keptjobs import KeptJobs
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import UserError
from pybuild.model.ops import Copy
from tests.executor import zygote_functions as here
from tests.executor.test_zygote import is_running, run

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _as_root() -> None:  # pyright: ignore[reportUnusedFunction]
    if os.geteuid() != 0:
        pytest.skip("needs root")


async def echo(workers: Workers, **options: Any) -> int:
    """Return the process that did a call."""
    return int((await workers.call(job(here.echo), **options)).pid)


def kill_unheard(pid: int) -> None:
    """Kill it and wait for its end while our event loop stands still, and hears nothing of it."""
    os.kill(pid, 9)
    while is_running(pid):
        time.sleep(0.001)


async def gone(pid: int) -> bool:
    for _ in range(3000):
        if not is_running(pid):
            return True
        await asyncio.sleep(0.02)
    return False


def test_one_worker_does_one_call_after_the_other() -> None:
    async def body(workers: Workers) -> list[int]:
        return [await echo(workers, stay=True) for _ in range(4)]

    assert len(set(run(body))) == 1


def test_one_that_would_have_to_import_the_function_is_not_asked() -> None:
    async def body() -> None:
        kept = KeptJobs()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            gone: asyncio.Future[StepExit] = asyncio.get_running_loop().create_future()
            waits = RunningJob("1", ours, b"", gone, frozenset({"known:call"}))
            kept.keep(waits)
            assert kept.take(("other:call", (), {}, True)) is None
            assert kept.take(("known:call", (), {}, True)) is waits
            assert theirs.recv(1 << 16)
            kept.dismiss_all()

    asyncio.run(body())


def test_a_call_that_does_not_say_so_has_a_worker_of_its_own() -> None:
    async def body(workers: Workers) -> None:
        kept, other = await echo(workers, stay=True), await echo(workers)
        assert other != kept
        assert not is_running(other)
        assert await echo(workers, stay=True) == kept

    run(body)


@pytest.mark.slow
def test_calls_at_once_have_a_worker_each() -> None:
    async def body(workers: Workers) -> set[int]:
        return set(await asyncio.gather(*(echo(workers, stay=True) for _ in range(6))))

    assert len(run(body)) == 6


async def _fails(workers: Workers) -> None:
    with pytest.raises(UserError, match="no such thing"):
        await workers.call(job(here.fail, "fault"), stay=True)


async def _is_cancelled(workers: Workers) -> None:
    started = asyncio.Event()
    call = workers.call(job(here.sleep), stay=True, on_progress=lambda _: started.set())
    task = asyncio.create_task(call)
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _grows(workers: Workers) -> None:
    await workers.call(job(here.grow, 100 << 20), stay=True)


@pytest.mark.slow
@pytest.mark.parametrize("happens", [_fails, _is_cancelled, _grows])
def test_who_failed_or_grew_does_nothing_more(
    happens: Callable[[Workers], Awaitable[None]],
) -> None:
    async def body(workers: Workers) -> None:
        first = await echo(workers, stay=True)
        await happens(workers)  # in the same process, as the test above shows
        assert await gone(first)
        assert await echo(workers, stay=True) != first

    run(body)


def test_who_died_while_it_waited_is_not_asked() -> None:
    async def body(workers: Workers) -> None:
        first = await echo(workers, stay=True)
        os.kill(first, 9)
        assert await gone(first)
        for _ in range(2):
            await echo(workers)  # of which the zygote tells after the other's end
        assert await echo(workers, stay=True) != first

    run(body)


@pytest.mark.slow
def test_who_died_just_now_is_not_asked_either() -> None:
    async def body(workers: Workers) -> None:
        first = await echo(workers, stay=True)
        kill_unheard(first)
        assert await echo(workers, stay=True) != first

    run(body)


def test_nobody_waits_once_the_build_is_over() -> None:
    async def body(workers: Workers) -> None:
        first = await echo(workers, stay=True)
        workers.rest()
        assert await gone(first)

    run(body)


@pytest.mark.slow
def test_nobody_waits_long() -> None:
    async def body(workers: Workers) -> None:
        pids = set(await asyncio.gather(*(echo(workers, stay=True) for _ in range(3))))
        for pid in pids:
            assert await gone(pid)
        assert await echo(workers, stay=True) not in pids

    run(body)


@pytest.mark.slow
@pytest.mark.parametrize("rests", [False, True])
def test_workers_go_with_the_event_loop_that_they_served(rests: bool) -> None:
    """Also where a build has let them go, and its event loop ended before they did."""
    workers = Workers()

    async def body() -> int:
        pid = await echo(workers, stay=True)
        if rests:
            workers.rest()
        return pid

    pids = [asyncio.run(body()) for _ in range(2)]
    assert pids[0] != pids[1]
    asyncio.run(workers.close())
    assert not any(map(is_running, pids))


@pytest.mark.slow
def test_a_kept_worker_has_no_mount_and_no_file_of_its_last_call(tmp_path: Path) -> None:
    for name in ("base", "more", "upper", "work", "mounts"):
        (tmp_path / name).mkdir()
    (tmp_path / "more/file").write_text("x")
    work = job(
        apply,
        str(tmp_path / "mounts"),
        str(tmp_path / "upper"),
        work=str(tmp_path / "work"),
        base=[str(tmp_path / "base")],
        inputs={1: DeltaStack([str(tmp_path / "base"), str(tmp_path / "more")])},
        actions=[encode_action(Copy(input=1, source="/file", dest="/"), is_scratch=False)],
    )

    async def body(workers: Workers) -> here.OpenFiles:
        await workers.call(work, stay=True)
        pid = await echo(workers, stay=True)
        assert str(tmp_path) not in Path(f"/proc/{pid}/mountinfo").read_text()
        return await workers.call(job(here.open_files), stay=True)

    files = run(body)
    assert (tmp_path / "upper/file").read_text() == "x"
    assert not (tmp_path / "work").exists()
    kinds = sorted(target.partition(":")[0] for fd, target in files.fds.items() if fd > 2)
    assert kinds == ["socket"], files
