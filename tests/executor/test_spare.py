"""Steps whose process was made before they were asked for: the same steps, and no process left."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.steps.spec import StepKind, StepLimits, StepMount, StepMountType
from pybuild.executor.workers.workers import Workers
from pybuild.executor.zygote.spare import Wish
from pybuild.model.errors import UserError
from tests.executor.sandbox_helpers import Box, make_base, run_in, skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

KIND = StepKind("default", StepLimits(), "host", None, None, store="/store", usual=True)
RECVMSG = {"x86_64": "47", "aarch64": "212"}
LEAVE_CHROOT = """
import os
os.mkdir("/jail"); root = os.open("/", os.O_RDONLY); os.chroot("/jail"); os.fchdir(root)
for _ in range(64): os.chdir("..")
os.chroot("."); print(*sorted(os.listdir("/")))
"""
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


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a directory like a store's, with a root file system as a delta."""
    make_base(tmp_path / "store/snapshots/base")
    (tmp_path / "store/tmp").mkdir()
    return tmp_path / "store"


@pytest.fixture
def python(store: Path) -> str:
    """Return a Python in that root file system, without a library but for what it starts with."""
    program = shutil.which("python3", path="/usr/bin:/bin")
    if program is None or shutil.which("ldd") is None:
        pytest.skip("needs Debian's python3")
    look = "import encodings, sys; print(sys.executable, encodings.__path__[0])"
    said = subprocess.run(
        [program, "-I", "-S", "-c", look], capture_output=True, text=True, check=True
    )
    path, encodings = said.stdout.split()
    linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in linked.split() if word.startswith("/")]
    for source in (*libraries, os.path.realpath(path)):
        copy = Path(f"{store}/snapshots/base{source}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    shutil.copytree(encodings, f"{store}/snapshots/base{encodings}")
    return os.path.realpath(path)


@pytest.fixture
def _detached_layers() -> None:  # pyright: ignore[reportUnusedFunction]
    if tuple(map(int, platform.release().split(".")[:2])) < (6, 15):
        pytest.skip("needs overlay with layers from detached mounts: Linux 6.15")


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
    deadline = time.monotonic() + 60
    while not (found := _spares()):
        assert time.monotonic() < deadline, "no process was made ahead"
        await asyncio.sleep(0.005)
    return found[0]


async def _ready_spare() -> int:
    """Wait for one that waits for a step: in a receive from the zygote."""
    while True:
        spare = await _spare()
        with suppress(OSError):
            call = Path(f"/proc/{spare}/syscall").read_text().split()
            if call[:1] == [RECVMSG[platform.machine()]]:
                return spare
        await asyncio.sleep(0.005)


def _mounted(pid: int) -> dict[str, str]:
    """Return what file system is mounted where a process can see it."""
    lines = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    return {line.split()[1]: line.split()[2] for line in lines}


async def _steps(box: Box, count: int, **changes: Any) -> None:
    for _ in range(count):
        assert (await run_in(box.workers, box.spec("true", **changes))).status == 0


def _differences(seen: list[tuple[str, str, dict[str, str]]]) -> list[str]:
    """Return lines that not all of them have said."""
    texts = [set(f"{out}{err}{delta}".splitlines()) for out, err, delta in seen]
    return sorted(texts[0].union(*texts) - texts[0].intersection(*texts))


async def _same_each_time(box: Box, **changes: Any) -> None:
    seen: list[tuple[str, str, dict[str, str]]] = []
    for number in range(4):
        spare = await _spare() if number > 1 else 0
        spec = box.spec("/bin/sh", "-c", LOOK, user="root", **changes)
        outcome = await run_in(box.workers, spec)
        assert outcome.status == 0, outcome.err
        seen.append((outcome.out, outcome.err, outcome.delta()))
        assert spare not in _spares(), "it was not used"
    assert not _differences(seen)
    assert seen[0][2] == {"made": "dir"}


@pytest.mark.slow
@pytest.mark.parametrize("rootless", [False, True])
def test_a_step_is_the_same_in_a_process_made_ahead(
    base: Path, tmp_path: Path, rootless: bool
) -> None:
    go(base, tmp_path, _same_each_time, rootless=rootless)


@pytest.mark.slow
@pytest.mark.usefixtures("_detached_layers")
@pytest.mark.parametrize("rootless", [False, True])
def test_a_step_of_a_store_is_the_same_in_a_process_that_has_left_the_host(
    store: Path, rootless: bool
) -> None:
    async def body(box: Box) -> None:
        await _same_each_time(box, store=str(store))
        spare = await _ready_spare()
        assert _mounted(spare)["/"] == "tmpfs"
        tops = {path.split("/")[1] for path in _mounted(spare)}
        assert tops == {"", "proc", "dev", "sys", "files"}

    go(store / "snapshots/base", store / "tmp", body, rootless=rootless)


@pytest.mark.slow
@pytest.mark.usefixtures("_detached_layers")
def test_below_the_root_of_a_step_there_is_nothing_to_get_to(store: Path, python: str) -> None:
    async def body(box: Box) -> None:
        outcomes: list[str] = []
        for number in range(4):
            if number > 1:
                await _ready_spare()
            args = (python, "-I", "-S", "-c", LEAVE_CHROOT)
            outcome = await run_in(box.workers, box.spec(*args, store=str(store)))
            assert outcome.status == 0, outcome.err
            outcomes.append(outcome.out)
        assert "bin" in outcomes[0].split() and "jail" in outcomes[0].split()
        assert outcomes == [outcomes[0]] * 4

    go(store / "snapshots/base", store / "tmp", body)


@pytest.mark.slow
@pytest.mark.usefixtures("_detached_layers")
def test_a_store_that_is_not_all_in_one_mount_is_used_from_the_host(
    store: Path, tmp_path: Path
) -> None:
    """A link out of the store leads nowhere where only the store is."""
    (store / "snapshots").rename(tmp_path / "elsewhere")
    (store / "snapshots").symlink_to(tmp_path / "elsewhere")

    async def body(box: Box) -> None:
        await _same_each_time(box, store=str(store))
        assert _mounted(await _ready_spare())["/"] != "tmpfs"

    go(store / "snapshots/base", store / "tmp", body)


@pytest.mark.slow
@pytest.mark.usefixtures("_detached_layers")
def test_mount_points_that_the_image_hides_are_made_on_top(store: Path) -> None:
    async def body(box: Box) -> None:
        hiding = store / "snapshots/hiding"
        (hiding / "etc").mkdir(parents=True)
        os.setxattr(hiding / "etc", "trusted.overlay.opaque", b"y")
        box.lowers = (*box.lowers, hiding)
        for number in range(4):
            if number > 1:
                await _ready_spare()
            outcome = await run_in(box.workers, box.spec("ls", "/etc", store=str(store)))
            assert (outcome.out, outcome.err) == ("hosts\nresolv.conf\n", "")
            assert outcome.delta() == {}

    go(store / "snapshots/base", store / "tmp", body)


@pytest.mark.usefixtures("_detached_layers")
def test_an_image_with_a_link_for_dev_is_refused_there_too(store: Path) -> None:
    async def body(box: Box) -> None:
        await _steps(box, 2, store=str(store))
        hiding = store / "snapshots/linked"
        hiding.mkdir()
        (hiding / "dev").symlink_to("/etc")
        box.lowers = (*box.lowers, hiding)
        await _ready_spare()
        with pytest.raises(UserError, match="^/dev in the image is not a directory$"):
            await run_in(box.workers, box.spec("true", store=str(store)))

    go(store / "snapshots/base", store / "tmp", body)


@pytest.mark.slow
def test_the_first_steps_and_unusual_ones_have_none(base: Path, tmp_path: Path) -> None:
    async def body(box: Box) -> None:
        await _steps(box, 1)
        await asyncio.sleep(0.05)
        assert _spares() == []
        await _steps(box, 1)
        spare = await _spare()
        tmpfs = StepMount(type=StepMountType.TMPFS, target="/dev/mine")
        for changes in (
            {"security": "insecure"},
            {"network": "none"},
            {"shm_size_bytes": 1 << 20},
            {"mounts": (tmpfs,)},
            {"hosts": b"#" * 20_000},
        ):
            outcome = await run_in(box.workers, box.spec("true", **changes))
            assert outcome.status == 0
            assert spare in _spares(), changes

    go(base, tmp_path, body)


@pytest.mark.slow
def test_what_is_too_long_to_be_told_ends_nobody_else(base: Path, tmp_path: Path) -> None:
    """The zygote is sent short messages; the step gets all that it is to have."""
    entries = b"".join(b"192.0.2.7 host%d\n" % number for number in range(10_000))

    async def body(box: Box) -> None:
        other = asyncio.create_task(run_in(box.workers, box.spec("sleep", "60")))
        for _ in range(3):
            outcome = await run_in(box.workers, box.spec("cat", "/etc/hosts", hosts=entries))
            assert outcome.out.encode() == entries
        with pytest.raises(UserError, match="^the step's host name and limits take 10[0-9]{4} b"):
            await run_in(box.workers, box.spec("true", hostname="h" * 100_000))
        assert not other.done()
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other

    go(base, tmp_path, body)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_none_is_left_when_the_build_has_ended(base: Path, tmp_path: Path) -> None:
    async def body(box: Box) -> None:
        await _steps(box, 2)
        spare = await _spare()
        box.workers.rest()
        await _steps(box, 1)  # also while that one is ending
        while spare in _spares():
            await asyncio.sleep(0.005)
        assert _spares() == []
        await _steps(box, 1)
        await _spare()

    go(base, tmp_path, body)


@pytest.mark.slow
def test_one_stays_for_the_steps_that_go_on_when_another_build_ends(
    base: Path, tmp_path: Path
) -> None:
    async def body(box: Box) -> None:
        await _steps(box, 2)
        spare = await _ready_spare()
        unusual = box.spec("sleep", "60", network="none")
        step = asyncio.create_task(run_in(box.workers, unusual))
        while b"sleep\x0060\0" not in {Path(f"/proc/{p}/cmdline").read_bytes() for p in _spares()}:
            await asyncio.sleep(0.005)
        box.workers.rest()
        await _steps(box, 1)
        assert spare not in _spares(), "it was not used"
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    go(base, tmp_path, body)


def test_one_is_wished_for_after_two_steps_of_a_kind() -> None:
    wish = Wish()
    other = KIND._replace(limits=StepLimits(pids=3))
    wish.note(KIND, usual=True)
    assert wish.kind() is None
    wish.note(KIND, usual=True)
    assert wish.kind() == KIND
    wish.note(other, usual=True)
    assert wish.kind() is None
    wish.note(KIND, usual=False)
    wish.note(KIND, usual=True)
    assert wish.kind() is None
    wish.note(KIND, usual=True)
    assert wish.kind() is not None
    wish.give_up(KIND)
    assert wish.kind() is None
    for _ in range(2):
        wish.note(other, usual=True)
    assert wish.kind() is not None, "another kind has not failed"


def test_two_processes_are_there_at_once_where_many_steps_are_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def numbers(processors: set[int]) -> list[int]:
        def ours(_: int) -> set[int]:
            return processors

        monkeypatch.setattr(os, "sched_getaffinity", ours)
        return [Wish().at_once(steps) for steps in (1, 2, 3, 40)]

    assert numbers({0, 1}) == [1, 1, 2, 2]
    assert numbers({0}) == [1, 1, 1, 1]
