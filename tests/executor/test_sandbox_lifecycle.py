"""Steps that are cancelled, that are many, and that outlive nobody; steps of a plain user."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import pybuild
from pybuild.executor.files import jobs
from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.executor.workers.job import job
from pybuild.executor.workers.process import ZygoteProcess
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import EnvironmentFault
from tests.executor.sandbox_helpers import (
    Box,
    make_base,
    mounts_of,
    parent,
    processes_with,
    run_in,
    skip_unless_possible,
)
from tests.needs import need

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

_LONG_S = 60.0  # a grace that no step waits out, however busy the machine


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless_possible()
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def box(base: Path, tmp_path: Path) -> Iterator[Box]:
    workers = Workers()
    yield Box(tmp_path, (base,), workers)
    asyncio.run(workers.close())


@asynccontextmanager
async def opened(grace_s: float = 0.5) -> AsyncGenerator[Workers]:
    workers = Workers(grace_s=grace_s)
    try:
        yield workers
    finally:
        await workers.close()


async def cancel_when_started(box: Box, script: str, grace_s: float) -> tuple[float, bytes]:
    """Run *script*, cancel it at its first output; return the seconds that took, and the output."""
    async with opened(grace_s) as workers:
        started = asyncio.Event()
        output = b""

        def on_output(stream: str, data: bytes) -> None:
            nonlocal output
            output += data
            started.set()

        spec = box.spec("/bin/sh", "-c", script)
        task = asyncio.create_task(workers.run_step(spec, on_output))
        await started.wait()
        before = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - before, output


def test_cancel_ends_a_step_at_once_that_does_not_listen(box: Box) -> None:
    """[SBX-20] The first process of a namespace is not sent what it does not catch."""
    mark = f"sleep 10{os.getpid()}"
    seconds, _ = asyncio.run(cancel_when_started(box, f"echo x; {mark}; true", _LONG_S))
    assert seconds < _LONG_S
    assert processes_with(mark.replace(" ", "\0")) == []


@pytest.mark.slow
def test_cancel_lets_a_step_that_listens_clean_up(box: Box) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo x; while :; do sleep 0.01; done"
    seconds, output = asyncio.run(cancel_when_started(box, script, _LONG_S))
    assert seconds < _LONG_S
    assert output == b"x\nbye\n"


@pytest.mark.slow
def test_cancel_kills_a_step_that_refuses_after_the_grace(box: Box) -> None:
    script = "trap '' HUP; trap 'echo no' TERM; echo x; while :; do sleep 0.01; done"
    seconds, output = asyncio.run(cancel_when_started(box, script, 0.2))
    assert seconds >= 0.2
    assert output.startswith(b"x\n")


@pytest.mark.slow
def test_cancelling_twice_still_waits_for_the_end(box: Box) -> None:
    async def body() -> None:
        async with opened() as workers:
            started = asyncio.Event()
            mark = f"sleep 20{os.getpid()}"
            spec = box.spec("/bin/sh", "-c", f"trap 'true' TERM; echo x; while :; do {mark}; done")
            step = workers.run_step(spec, lambda _s, _d: started.set())
            task = asyncio.create_task(step)
            await started.wait()
            for _ in range(5):
                task.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert processes_with(mark.replace(" ", "\0")) == []

    asyncio.run(body())


@pytest.mark.slow
def test_closing_ends_running_steps(box: Box) -> None:
    async def body() -> None:
        workers = Workers()
        started = asyncio.Event()
        mark = f"sleep 30{os.getpid()}"
        spec = box.spec("/bin/sh", "-c", f"echo x; {mark}; true")
        task = asyncio.create_task(workers.run_step(spec, lambda _s, _d: started.set()))
        await started.wait()
        await workers.close()
        with pytest.raises(EnvironmentFault, match="was stopped"):
            await task
        assert processes_with(mark.replace(" ", "\0")) == []

    asyncio.run(body())


@pytest.mark.slow
def test_an_event_loop_may_end_while_a_helper_is_being_started(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start begun ahead ends with its event loop; the next loop begins another, and closing is no error."""
    workers = Workers()
    begun: list[ZygoteProcess] = []
    start = ZygoteProcess.start

    async def noted(zygote: ZygoteProcess) -> None:
        begun.append(zygote)
        await start(zygote)

    monkeypatch.setattr(ZygoteProcess, "start", noted)

    async def cut_short() -> None:
        step = asyncio.create_task(workers.run_step(box.spec("true"), lambda _, __: None))
        while len(begun) < 2:
            await asyncio.sleep(0)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)

    async def use() -> int:
        return (await workers.run_step(box.spec("true"), lambda _, __: None)).status

    asyncio.run(cut_short())
    assert asyncio.run(use()) == 0
    asyncio.run(cut_short())
    asyncio.run(workers.close())


@pytest.mark.slow
def test_a_failing_output_callback_ends_the_step(box: Box) -> None:
    def on_output(stream: str, data: bytes) -> None:
        raise RuntimeError("the caller's own")

    async def body() -> None:
        async with opened() as workers:
            spec = box.spec("/bin/sh", "-c", "echo x; sleep 1000; true")
            with pytest.raises(RuntimeError, match="the caller's own"):
                await workers.run_step(spec, on_output)

    asyncio.run(body())


@pytest.mark.slow
def test_much_output_arrives_whole_and_in_order(box: Box) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    out = box.sh(script).out
    assert out == "".join(f"line {i}\n" for i in range(20000))


@pytest.mark.slow
def test_thirty_steps_at_once(box: Box) -> None:
    async def body() -> None:
        async with opened() as workers:
            specs = [box.spec("/bin/sh", "-c", f"echo {i}; echo > /f{i}") for i in range(30)]
            done = await asyncio.gather(*(run_in(workers, spec) for spec in specs))
        assert [(d.status, d.out) for d in done] == [(0, f"{i}\n") for i in range(30)]
        assert [d.delta() for d in done] == [{f"f{i}": "file"} for i in range(30)]

    asyncio.run(body())


@pytest.mark.slow
def test_steps_leave_no_descriptor_and_no_mount(box: Box) -> None:
    async def body() -> None:
        async with opened() as workers:
            for _ in range(3):  # from here on a process for the next step is ready
                await run_in(workers, box.spec("true"))
            # The helper for copies is begun ahead: it is up when it has answered.
            await workers.call(job(jobs.remove, str(box.directory / "nothing")))
            running = processes_with("pybuild.executor.zygote.loop")
            zygote = [pid for pid in running if parent(pid) == os.getpid()]
            assert zygote
            before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (*zygote, os.getpid())]
            mounts = mounts_of(box.directory)
            for _ in range(5):
                await run_in(workers, box.spec("true"))
            deadline = time.monotonic() + 60  # that one is made when all else is done
            while True:
                after = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (*zygote, os.getpid())]
                more = [now - then for now, then in zip(after, before, strict=True)]
                if max(more) <= 0 or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.01)
            assert max(more) <= 0  # what this process had open before may be closed meanwhile
            assert mounts_of(box.directory) == mounts

    asyncio.run(body())


_MAIN = """
import asyncio, os, sys, time
from pybuild.executor.steps.spec import StepSpec
from pybuild.executor.workers.workers import Workers
lower, upper, work, script = sys.argv[1:5]
def tell(stream, data):
    print(stream, data.decode(), end="", flush=True)
    if "fork" in sys.argv:
        if child := os.fork():
            print("child", child, flush=True)
        else:
            os.close(1)
            time.sleep(60)
            os._exit(0)
async def main():
    workers = Workers()
    spec = StepSpec(lowers=(lower,), upper=upper, work=work, args=("/bin/sh", "-c", script),
                    hosts=b"127.0.0.1 localhost\\n")
    print(await workers.isolation(), flush=True)
    done = await workers.run_step(spec, tell)
    print("status", done.status, flush=True)
    await workers.close()
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_work_directory_goes_when_nothing_but_the_roots_overlay_was_in_it(box: Box) -> None:
    """Asking for another step waits until the zygote has done with the one before."""
    lower = box.directory / "lower"
    lower.mkdir()
    mount = StepMount(type=StepMountType.BIND_OVERLAY, target="/m", lowers=(str(lower),))
    common = box.directory / "common"
    (common / "root").mkdir(parents=True)
    plain = box.run("touch", "/made", common=str(common))
    more = box.run("touch", "/m/lost", common=str(common), mounts=(mount,))
    assert (plain.status, more.status, box.run("true").status) == (0, 0, 0)
    assert plain.delta() == {"made": "file"}
    assert not os.path.exists(plain.spec.work)
    assert os.listdir(more.spec.work)  # for the caller to delete


@pytest.mark.slow
@pytest.mark.parametrize("forked", [False, True])
def test_kill_9_of_the_main_process_leaves_no_process(box: Box, forked: bool) -> None:
    """Also where a fork of it, such as multiprocessing's, has all open that it had."""
    mark = f"sleep 40{os.getpid()}"
    spec = box.spec()
    command = [sys.executable, "-c", _MAIN, spec.lowers[0], spec.upper, spec.work]
    script = f"setsid {mark} & echo started; {mark}; true".replace("setsid ", "")
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(next(iter(pybuild.__path__)))}
    command += [script, *["fork"][:forked]]
    child = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as main:
        assert main.stdout is not None
        assert main.stdout.readline() == "root\n"
        assert main.stdout.readline() == "stdout started\n"
        if forked:
            child = int(main.stdout.readline().split()[1])
        os.kill(main.pid, signal.SIGKILL)
        main.wait(60)
        deadline = time.monotonic() + 60
        while processes_with(mark.replace(" ", "\0")) and time.monotonic() < deadline:
            time.sleep(0.01)
    left = processes_with(mark.replace(" ", "\0"))
    if child:
        os.kill(child, signal.SIGKILL)
    assert left == []


# --- a plain user ---------------------------------------------------------------------------------

_PLAIN = 65534
_PYTHON = "/usr/bin/python3"


def as_plain_user(tmp: Path, base: Path, script: str, *, sub_ids: bool) -> list[str]:
    """Run *script* in a step of a process of uid 65534; return what `_MAIN` prints."""
    need("setpriv", "unshare")
    if sub_ids:
        need("newuidmap")
    if not os.access(_PYTHON, os.X_OK) or _version(_PYTHON) < (3, 11):
        pytest.skip("needs a Python 3.11 that every user may run, as /usr/bin/python3")
    root = os.path.dirname(os.path.realpath(next(iter(pybuild.__path__))))
    place = Path(tempfile.mkdtemp(prefix="pybuild-test-", dir="/dev/shm"))
    try:
        shutil.copytree(base, place / "lower", symlinks=True)
        for path in (place / "lower", *(place / "lower").rglob("*")):
            os.chown(path, _PLAIN, _PLAIN)
        for name in ("upper", "work"):
            (place / name).mkdir()
            os.chown(place / name, _PLAIN, _PLAIN)
        # Ours may lie where only root can look.
        uncompiled = shutil.ignore_patterns("__pycache__")
        shutil.copytree(f"{root}/pybuild", place / "pybuild", ignore=uncompiled)
        place.chmod(0o755)
        (place / "subid").write_text(f"{_PLAIN}:200000:65536\n" if sub_ids else "")
        command = ["setpriv", f"--reuid={_PLAIN}", f"--regid={_PLAIN}", "--clear-groups", _PYTHON]
        command += ["-c", _MAIN, f"{place}/lower", f"{place}/upper", f"{place}/work", script]
        binds = "".join(
            f"[ -e /etc/{name} ] && mount --bind {place}/subid /etc/{name};"
            for name in ("subuid", "subgid")
        )
        done = subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-c", binds + 'exec "$@"', "sh", *command],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "HOME": "/"},
        )
        if "cannot make a user namespace" in done.stderr:
            pytest.skip("user namespaces are not allowed here")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _version(python: str) -> tuple[int, int]:
    script = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    major, minor = done.stdout.split()
    return int(major), int(minor)


@pytest.mark.slow
def test_plain_user_with_one_id_has_owners_too(base: Path, tmp_path: Path) -> None:
    script = "id -u; rm /bin/wc; echo > /f; chown 33:7 /f; stat -c '%u %g' /f; cat /etc/hosts"
    lines = as_plain_user(tmp_path, base, script, sub_ids=False)
    assert lines[0] == "userns-single"
    assert [line.removeprefix("stdout ") for line in lines[1:]] == [
        *("0", "33 7", "127.0.0.1 localhost", "status 0"),
    ]


@pytest.mark.slow
def test_plain_user_with_sub_ids_has_owners(base: Path, tmp_path: Path) -> None:
    if not (os.path.exists("/etc/subuid") and os.path.exists("/etc/subgid")):
        pytest.skip("needs /etc/subuid and /etc/subgid to put a range in their place")
    script = "id -u; echo > /f; chown 33:7 /f; stat -c '%u %g' /f"
    lines = as_plain_user(tmp_path, base, script, sub_ids=True)
    assert [line.removeprefix("stdout ") for line in lines] == [
        *("userns", "0", "33 7", "status 0"),
    ]
