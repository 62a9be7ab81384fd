"""Calls in workers: results, errors, cancelling, and death on either side."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.workers.job import Job, job
from pybuild.executor.workers.launch import CALLS, STEPS, Ahead
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import EnvironmentFault, InternalError, UserError
from tests.executor import zygote_functions as here
from tests.harness import ROOT
from tests.needs import need

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _as_root() -> None:  # pyright: ignore[reportUnusedFunction]
    if os.geteuid() != 0:
        pytest.skip("needs root")


def run(body: Callable[[Workers], Awaitable[Any]], rootless: bool | None = None) -> Any:
    async def main() -> Any:
        workers = Workers(rootless=rootless)
        try:
            return await body(workers)
        finally:
            await workers.close()

    return asyncio.run(main())


def is_running(pid: int) -> bool:
    """Whether the process lives; one that is dead and not yet reaped by init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_call_returns_what_the_function_returns() -> None:
    seen: list[int] = []
    args = {"bytes": b"\0\xff", "none": None, "list": [1, 2.5, "x"]}
    result = run(lambda w: w.call(job(here.echo, args, 3), on_progress=seen.append))
    assert result.args == args
    assert result.pid != os.getpid()
    assert seen == [0, 1, 2]


@pytest.mark.slow
def test_large_arguments_and_results_pass() -> None:
    args = {"data": os.urandom(1) * (3 << 20)}
    assert run(lambda w: w.call(job(here.echo, args))).args == args


@pytest.mark.slow
def test_descriptors_arrive_in_order(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    with (tmp_path / "a").open() as a, (tmp_path / "b").open() as b:
        fds = [b.fileno(), a.fileno()]
        result = run(lambda w: w.call(job(here.read_fds), fds=fds))
    assert result == [b"b", b"a"]


@pytest.mark.slow
def test_worker_holds_no_other_jobs_descriptors() -> None:
    async def body(workers: Workers) -> Any:
        started = asyncio.Event()
        other = asyncio.create_task(
            workers.call(job(here.sleep), on_progress=lambda _: started.set())
        )
        await started.wait()
        result = await workers.call(job(here.open_files))
        other.cancel()
        return result

    result = run(body)
    kinds = sorted(target.partition(":")[0] for fd, target in result.fds.items() if fd > 2)
    assert kinds == ["socket"], result  # the job's own channel


@pytest.mark.parametrize(
    ("how", "kind", "text", "hints"),
    [
        ("fault", UserError, "no such thing", ("try another",)),
        ("model", UserError, "model says no", ("yes",)),
        ("os", EnvironmentFault, "/no/such/file: no such file or directory", ()),
    ],
)
def test_errors_come_back_as_the_models(
    how: str, kind: type[Exception], text: str, hints: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as caught:
        run(lambda w: w.call(job(here.fail, how)))
    error = caught.value
    assert isinstance(error, UserError | EnvironmentFault)
    assert (error.message, error.hints) == (text, hints)


def test_unexpected_exceptions_are_internal_errors_with_a_traceback() -> None:
    with pytest.raises(InternalError, match=r"(?s)^ValueError: other\n.*in fail"):
        run(lambda w: w.call(job(here.fail, "other")))


@pytest.mark.slow
def test_unknown_function_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="no_such"):
        run(lambda w: w.call(Job("tests.executor.zygote_functions:no_such", (), {})))


@pytest.mark.slow
def test_a_worker_that_dies_is_reported_and_the_next_call_works() -> None:
    async def body(workers: Workers) -> None:
        with pytest.raises(EnvironmentFault, match="ended without a result .status 137."):
            await workers.call(job(here.fail, "die"))
        await workers.call(job(here.echo))

    run(body)


def test_cancelling_a_call_kills_its_process() -> None:
    async def body(workers: Workers) -> None:
        pids: list[int] = []
        started = asyncio.Event()

        def on_progress(pid: int) -> None:
            pids.append(pid)
            started.set()

        task = asyncio.create_task(workers.call(job(here.sleep), on_progress=on_progress))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not Path(f"/proc/{pids[0]}").exists()

    run(body)


@pytest.mark.slow
def test_many_calls_at_once() -> None:
    async def body(workers: Workers) -> list[int]:
        calls = (workers.call(job(here.echo, {"n": n})) for n in range(30))
        return [result.args["n"] for result in await asyncio.gather(*calls)]

    assert run(body) == list(range(30))


@pytest.mark.slow
def test_death_of_the_zygote_fails_its_jobs_and_the_next_starts_another() -> None:
    async def body(workers: Workers) -> None:
        pids: list[int] = []
        started = asyncio.Event()

        def on_progress(pid: int) -> None:
            pids.append(pid)
            started.set()

        task = asyncio.create_task(workers.call(job(here.sleep), on_progress=on_progress))
        await started.wait()
        status = Path(f"/proc/{pids[0]}/status").read_text()
        zygote = next(int(line.split()[1]) for line in status.splitlines() if "PPid" in line)
        os.kill(zygote, signal.SIGKILL)
        with pytest.raises(EnvironmentFault, match=r"ended unexpectedly .signal 9."):
            await task
        assert (await workers.call(job(here.echo, {"n": 1}))).args == {"n": 1}
        for _ in range(6000):  # its parent-death signal is on its way
            if not is_running(pids[0]):
                break
            await asyncio.sleep(0.01)
        assert not is_running(pids[0])

    run(body)


def test_workers_follow_the_caller_into_another_event_loop() -> None:
    workers = Workers()
    for n in range(2):
        result = asyncio.run(workers.call(job(here.echo, {"n": n})))
        assert result.args == {"n": n}
    asyncio.run(workers.close())


def test_a_failing_progress_callback_ends_the_call() -> None:
    def on_progress(pid: int) -> None:
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        run(lambda w: w.call(job(here.sleep), on_progress=on_progress))


@pytest.mark.parametrize(("rootless", "rung"), [(None, "root"), (True, "userns")])
def test_isolation_names_the_rung(rootless: bool | None, rung: str) -> None:
    async def body(workers: Workers) -> tuple[str, str]:
        return await workers.isolation(), (await workers.call(job(here.echo))).rung

    assert run(body, rootless) == (rung, rung)


_PLAIN_CHROOT = """
for path in /*; do
    if [ -L "$path" ]; then cp -P "$path" "$1/"
    elif [ -d "$path" ]; then mkdir "$1$path" && mount --rbind "$path" "$1$path"
    fi
done
root=$1
shift
exec chroot "$root" "$@"
"""
_SAY_RUNG = """
from pybuild.executor.zygote.isolation import enter
print(enter(None))
"""


@pytest.mark.slow
def test_a_plain_chroot_is_a_rung_of_its_own(tmp_path: Path) -> None:
    """Nothing can be kept from the outside where the root is no mount point."""
    need("unshare")
    program = [sys.executable, "-c", _SAY_RUNG]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", _PLAIN_CHROOT, "sh", str(tmp_path), *program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    assert done.stdout == "('chroot', 'the root directory is a chroot and no mount point')\n"


@pytest.mark.slow
@pytest.mark.parametrize("rootless", [None, True])
def test_overlay_of_older_kernels(tmp_path: Path, rootless: bool | None) -> None:
    """Hundreds of layers and awkward names pass; the mount is the worker's alone."""
    base = tmp_path / "a:b,c\\d"
    lowers = [f"l{n}" for n in range(300)]
    for name in (*lowers, "target", "upper", "work"):
        (base / name).mkdir(parents=True)
    (base / "l0/first").touch()
    (base / "l299/last").touch()
    result = run(lambda w: w.call(job(here.mount_by_number, str(base), lowers)), rootless)
    assert result == ["first", "last", "new"]
    assert list((base / "target").iterdir()) == []
    assert [p.name for p in (base / "upper").iterdir()] == ["new"]


# --- started ahead --------------------------------------------------------------------------------


def _have_processors(monkeypatch: pytest.MonkeyPatch, numbers: set[int]) -> None:
    def affinity(_pid: int) -> set[int]:
        return numbers

    monkeypatch.setattr(os, "sched_getaffinity", affinity)


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    _have_processors(monkeypatch, {0, 1})


@pytest.mark.slow
@pytest.mark.usefixtures("two_processors")
def test_workers_take_what_was_started_ahead_and_the_rest_is_ended() -> None:
    ahead = Ahead()
    pids = {kind: launched.process.pid for kind, launched in ahead.waiting.items()}
    assert sorted(pids) == ["call", "exec"]

    async def body() -> None:
        workers = Workers(ahead=ahead)
        try:
            assert (await workers.call(job(here.echo))).parent == pids["call"]
            os.kill(pids["call"], signal.SIGKILL)
            while is_running(pids["call"]):
                await asyncio.sleep(0)
            with suppress(EnvironmentFault):  # that one may be noticed by the call itself
                await workers.call(job(here.echo))
            assert (await workers.call(job(here.echo))).parent not in pids.values()
        finally:
            await workers.close()

    asyncio.run(body())
    assert is_running(pids["exec"])
    ahead.end()
    assert not is_running(pids["exec"])
    assert ahead.take("exec") is None


@pytest.mark.usefixtures("two_processors")
def test_what_cannot_be_started_ahead_is_told_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    ahead = Ahead()
    assert not ahead.waiting

    async def body() -> None:
        workers = Workers(ahead=ahead)
        with pytest.raises(EnvironmentFault, match="cannot start the sandbox helper"):
            await workers.call(job(here.echo))
        await workers.close()

    asyncio.run(body())


def test_nothing_is_started_ahead_on_a_single_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    _have_processors(monkeypatch, {0})
    assert not Ahead().waiting


@pytest.mark.parametrize("module", [STEPS, CALLS, "pybuild.networks.buildnetwork"])
def test_what_zygotes_import_ahead_is_lean(module: str) -> None:
    """Each build pays for it twice, and each fork for what it takes in memory; the last is for the first step."""
    program = f"import sys; sys.path.append(sys.argv[1]); import {module}; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    heavy = {"_hashlib", "asyncio", "dataclasses", "enum", "json", "pathlib", "re", "typing"}
    assert heavy.isdisjoint(done.stdout.split())
