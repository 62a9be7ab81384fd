"""Steps whose process was made before they were asked for: the same steps, and no process left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.step import StepMount, StepMountType
from pybuild.executor.workers import Workers
from pybuild.executor.zygote.spare import Wish
from tests.executor.sandbox_helpers import Box, make_base, run_in, skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

STEP: dict[str, Any] = {"network": "default", "limits": {}, "unusual": False, "upper": "/u"}
# All that tells one sandbox from another, but for its own names and numbers.
LOOK = """
sort /proc/self/mounts | grep -v ' / ' ; ls -l /dev /dev/pts /dev/shm | tr -s ' ' | cut -d' ' -f1-5
ls /proc/acpi /sys/firmware /sys/fs/cgroup; cat /proc/keys; hostname; id; pwd; env
grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|NSpid|SigBlk|SigIgn|SigCgt)' /proc/self/status; ls /proc/$$/fd
cat /proc/self/cgroup /etc/hosts /etc/resolv.conf; echo $$; ls -d /proc/1; ls / /etc
mkdir /made && touch /dev/mine /dev/shm/mine && ! touch /proc/sys/mine 2>/dev/null
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless_possible()
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def _two_processors() -> None:  # pyright: ignore[reportUnusedFunction]
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")


_others: set[int] = set()
"""Children that are not ours: other tests' fixtures have zygotes of their own."""


@pytest.fixture(autouse=True)
def _known_children() -> None:  # pyright: ignore[reportUnusedFunction]
    _others.clear()
    _others.update(_children(os.getpid()))


Body = Callable[[Box], Awaitable[None]]


def go(base: Path, tmp_path: Path, body: Body, *, rootless: bool = False) -> None:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Workers]:
        workers = Workers(rootless=rootless or None)
        try:
            yield workers
        finally:
            await workers.close()

    async def main() -> None:
        async with opened() as workers:
            await body(Box(tmp_path, (base,), workers))

    asyncio.run(main())
    assert _spares() == []


def _spares() -> list[int]:
    """Return the processes that our zygotes have for steps that nobody has asked for."""
    ours = _children(os.getpid())
    return [child for zygote in ours if zygote not in _others for child in _children(zygote)]


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


async def _spare() -> int:
    """Wait for one."""
    deadline = time.monotonic() + 10
    while not (found := _spares()):
        assert time.monotonic() < deadline, "no process was made ahead"
        await asyncio.sleep(0.005)
    return found[0]


async def _steps(box: Box, count: int) -> None:
    for _ in range(count):
        assert (await run_in(box.workers, box.spec("true"))).status == 0


def _differences(seen: list[tuple[str, str, dict[str, str]]]) -> list[str]:
    """Return lines that not all of them have said."""
    texts = [set(f"{out}{err}{delta}".splitlines()) for out, err, delta in seen]
    return sorted(texts[0].union(*texts) - texts[0].intersection(*texts))


@pytest.mark.parametrize("rootless", [False, True])
def test_a_step_is_the_same_in_a_process_made_ahead(
    base: Path, tmp_path: Path, rootless: bool
) -> None:
    async def body(box: Box) -> None:
        seen: list[tuple[str, str, dict[str, str]]] = []
        for number in range(4):
            spare = await _spare() if number > 1 else 0
            outcome = await run_in(box.workers, box.spec("/bin/sh", "-c", LOOK, user="root"))
            assert outcome.status == 0, outcome.err
            seen.append((outcome.out, outcome.err, outcome.delta()))
            assert spare not in _spares(), "it was not used"
        assert not _differences(seen)
        assert seen[0][2] == {"made": "dir"}

    go(base, tmp_path, body, rootless=rootless)


def test_the_first_steps_and_unusual_ones_have_none(base: Path, tmp_path: Path) -> None:
    async def body(box: Box) -> None:
        await _steps(box, 1)
        await asyncio.sleep(0.05)
        assert _spares() == []
        await _steps(box, 1)
        spare = await _spare()
        for changes in ({"security": "insecure"}, {"network": "none"}, {"shm_size_bytes": 1 << 20}):
            outcome = await run_in(box.workers, box.spec("true", **changes))
            assert outcome.status == 0
            assert spare in _spares(), changes

    go(base, tmp_path, body)


def test_one_that_was_killed_is_done_without(base: Path, tmp_path: Path) -> None:
    async def body(box: Box) -> None:
        await _steps(box, 2)
        spare = await _spare()
        os.kill(spare, signal.SIGKILL)
        while Path(f"/proc/{spare}").exists():  # until the zygote has seen it
            await asyncio.sleep(0.005)
        await _steps(box, 3)
        assert _spares() == []

    go(base, tmp_path, body)


def test_mounts_in_kernel_file_systems_are_masked_as_ever(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    mounts = tuple(
        StepMount(type=StepMountType.BIND_PATH, source=str(tmp_path / "file"), target=target)
        for target in ("/dev/mine", "/proc/keys")
    )

    async def body(box: Box) -> None:
        outcomes: list[Any] = []
        for number in range(4):
            if number > 1:
                await _spare()
            spec = box.spec("/bin/sh", "-c", "cat /dev/mine /proc/keys", mounts=mounts)
            outcome = await run_in(box.workers, spec)
            outcomes.append((outcome.status, outcome.out, outcome.err))
        assert outcomes == [(0, "mine", "")] * 4

    go(base, tmp_path, body)


def test_cancelling_ends_a_step_in_one(base: Path, tmp_path: Path) -> None:
    async def body(box: Box) -> None:
        await _steps(box, 2)
        spare = await _spare()
        step = asyncio.create_task(run_in(box.workers, box.spec("sleep", "60")))
        while Path(f"/proc/{spare}/cmdline").read_bytes() != b"sleep\x0060\0":
            await asyncio.sleep(0.005)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert not Path(f"/proc/{spare}").exists()

    go(base, tmp_path, body)


def test_one_is_wished_for_after_two_steps_of_a_kind() -> None:
    wish = Wish()
    wish.note(STEP, usual=True)
    assert wish.details() is None
    wish.note({**STEP, "upper": "/v"}, usual=True)
    assert wish.details() == {"network": "default", "limits": {}, "unusual": False}
    wish.note({**STEP, "limits": {"pids": 3}}, usual=True)
    assert wish.details() is None
    wish.note(STEP, usual=False)
    wish.note(STEP, usual=True)
    assert wish.details() is None
    wish.note(STEP, usual=True)
    assert wish.details() is not None
    wish.give_up()
    assert wish.details() is None
