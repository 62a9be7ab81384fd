"""Steps that mean harm, or only go wrong without end: the builder survives and says what happened."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.executor.step import StepMount, StepMountType
from pybuild.executor.workers import Workers
from pybuild.executor.zygote import hierarchies
from pybuild.model.errors import UserError
from tests.executor.sandbox_helpers import (
    HOST_PROGRAMS,
    Box,
    make_base,
    run_in,
    skip_unless_possible,
)
from tests.harness import BUSYBOX, Pybuild, write
from tests.harness import make_base as make_image

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless_possible()
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(params=["root", "userns"])
def box(request: pytest.FixtureRequest, base: Path, tmp_path: Path) -> Iterator[Box]:
    workers = Workers(rootless=request.param == "userns")
    yield Box(tmp_path, (base,), workers)
    asyncio.run(workers.close())


@pytest.mark.slow
def test_forking_for_ever(box: Box) -> None:
    if not any("pids" in h.controllers and not h.problem for h in hierarchies.hierarchies()):
        pytest.skip("no pids cgroup")
    done = box.sh("bomb() { bomb | bomb & }; bomb; sleep 1; exit 7", pids_limit=200)
    assert done.ended.out_of_processes
    assert done.ended.seconds < 30
    assert box.run("true").status == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "small", str(place)]
    if subprocess.run(command, check=False, timeout=10).returncode:
        pytest.skip("cannot mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=10)


def test_filling_the_disk(base: Path, small_disk: Path) -> None:
    workers = Workers()
    box = Box(small_disk, (base,), workers)
    done = box.sh("cat /dev/zero > /big; echo status $?; rm /big; echo room > /f; cat /f")
    assert "No space left on device" in done.err
    assert done.out == "status 1\nroom\n"
    asyncio.run(workers.close())


@pytest.mark.parametrize("place", ["/dev", "/dev/shm"])
def test_filling_memory_through_its_file_systems(box: Box, place: str) -> None:
    done = box.sh(f"cat /dev/zero > {place}/big; stat -c %s {place}/big")
    assert "No space left on device" in done.err
    assert int(done.out) <= 64 << 20


def test_output_without_end_takes_no_memory(box: Box) -> None:
    """A quarter of a gigabyte passes through; what the builder keeps of it is bounded."""

    async def body() -> tuple[int, int]:
        seen = 0

        def on_output(_stream: str, data: bytes) -> None:
            nonlocal seen
            seen += len(data)

        spec = box.spec("/bin/sh", "-c", "head -c 250000000 /dev/zero")
        ended = await box.workers.run_step(spec, on_output)
        await box.workers.close()
        return seen, ended.status

    before = _resident()
    assert asyncio.run(body()) == (250_000_000, 0)
    assert _resident() - before < 32 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_slow_reader_slows_the_step_down(box: Box) -> None:
    """Nothing is buffered without bound between a step and whoever listens."""

    async def body() -> int:
        seen = 0

        def on_output(_stream: str, data: bytes) -> None:
            nonlocal seen
            seen += len(data)
            time.sleep(0.002)

        task = asyncio.create_task(
            box.workers.run_step(box.spec("/bin/cat", "/dev/zero"), on_output)
        )
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await box.workers.close()
        return seen

    assert 0 < asyncio.run(body()) < 64 << 20


def test_deleting_everything(box: Box, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    mounts = (
        StepMount(
            type=StepMountType.BIND_PATH, source=str(tmp_path / "kept"), target="/k", readonly=True
        ),
        StepMount(type=StepMountType.SECRET, target="/run/secrets/s", data=b"x"),
    )
    done = box.run("/bin/busybox", "rm", "-rf", "/", mounts=mounts)
    assert done.status == 1
    assert (tmp_path / "kept").read_text() == "kept"
    assert "bin" in done.delta()
    assert (box.lowers[0] / "bin/sh").exists()
    assert box.run("true").status == 0


def test_daemons_that_left_everything_behind(box: Box) -> None:
    script = "for i in 1 2 3; do (trap '' TERM HUP INT; exec setsid sleep 77777) & done; echo ok"
    done = box.sh(script)
    assert (done.out, done.ended.seconds < 5) == ("ok\n", True)
    assert not subprocess.run(
        ["pgrep", "-f", "sleep 77777"], check=False, timeout=10, capture_output=True
    ).stdout


def test_a_program_is_not_found_in_a_variable_with_a_nul(box: Box) -> None:
    done = box.run("true", env=("A=\0",))
    assert (done.status, done.err) == (126, 'exec: "true": embedded null byte\n')


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
def test_accounts_that_are_no_file(box: Box, tmp_path: Path, kind: str) -> None:
    etc = tmp_path / "layer/etc"
    etc.mkdir(parents=True)
    if kind == "fifo":
        os.mkfifo(etc / "passwd")
    elif kind == "directory":
        (etc / "passwd").mkdir()
    else:
        with open(etc / "passwd", "wb") as file:
            file.truncate(1 << 40)
    box.lowers = (*box.lowers, tmp_path / "layer")
    with pytest.raises(UserError, match="/etc/passwd in the image: "):
        box.run("true", user="app")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["target", "selector"])
def test_links_that_are_raced_in_a_shared_cache(box: Box, tmp_path: Path, what: str) -> None:
    """While a step trades a directory for a link to the host, others mount by that name."""
    outside, cache = tmp_path / "outside", tmp_path / "cache"
    outside.mkdir()
    (outside / "canary").write_text("canary")
    (cache / "real").mkdir(parents=True)
    (cache / "real/canary").write_text("harmless")
    (cache / "place").symlink_to(outside)
    before = sorted(os.listdir(outside)), outside.stat().st_mtime_ns
    stop = threading.Event()

    def trade() -> None:  # what a step with the same cache could do, only faster
        while not stop.is_set():
            for target in (outside, Path("real")):
                new = cache / "new"
                new.symlink_to(target)
                new.rename(cache / "place")

    thread = threading.Thread(target=trade)
    thread.start()
    kind = StepMountType.BIND_PATH
    shared = StepMount(type=kind, source=str(cache), target="/c")
    inner = (
        StepMount(type=StepMountType.SECRET, target="/c/place/secret", data=b"s")
        if what == "target"
        else StepMount(type=kind, source=str(cache), target="/m", selector="/place")
    )

    async def body() -> list[str]:
        told: list[str] = []
        for _ in range(40):
            spec = box.spec(
                "/bin/sh", "-c", "cat /m/canary /c/place/canary", mounts=(shared, inner)
            )
            try:
                done = await run_in(box.workers, spec)
                told.append(done.out)
            except UserError as error:
                told.append(error.message)
        await box.workers.close()
        return told

    try:
        told = asyncio.run(body())
    finally:
        stop.set()
        thread.join()
    assert set("".join(told).replace("harmless", "").split("canary")) & {"canary"} == set()
    assert not any(text.startswith("canary") for text in told)
    assert (sorted(os.listdir(outside)), outside.stat().st_mtime_ns) == before


_DEEP = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv) {
    for (int left = atoi(argv[argc - 1]); left; left--)
        if (mkdir("d", 0755) || chdir("d")) return 1;
    return close(open("f", O_CREAT | O_WRONLY, 0644));
}
"""


@pytest.mark.slow
def test_ten_thousand_directories_deep(tmp_path: Path) -> None:
    """They can be in an image and be deleted; copying them is refused, in words."""
    if not shutil.which("gcc") or BUSYBOX is None:
        pytest.skip("needs gcc and busybox")
    try:
        _build_deep_trees(Pybuild(tmp_path / "store"), tmp_path)
    finally:  # which shutil cannot delete
        subprocess.run(["rm", "-rf", str(tmp_path / "store")], check=True, timeout=60)


def _build_deep_trees(pybuild: Pybuild, tmp_path: Path) -> None:
    make_image(pybuild, tmp_path / "image", "base")
    context = write(tmp_path / "c", **{"deep.c": _DEEP})
    compiled = ["gcc", "-static", "-o", str(context / "deep"), str(context / "deep.c")]
    if subprocess.run(compiled, check=False, timeout=60).returncode:
        pytest.skip("needs a libc to link statically")

    def dockerfile(levels: int, more: str) -> Path:
        text = f"FROM base AS a\nCOPY deep /deep\nWORKDIR /x\nRUN /deep {levels}\n{more}"
        return write(context, Dockerfile=text)

    pybuild("build", "-o", f"type=oci,dest={tmp_path}/o.tar", dockerfile(10_000, "RUN true\n"))
    for more in (
        "FROM base\nCOPY --from=a /x /y\n",
        "FROM base\nRUN --mount=type=bind,from=a,source=/x,target=/m true\n",
    ):
        done = pybuild("build", dockerfile(10_000, more), code=1)
        assert "directories deep: paths of more than 4096 bytes cannot be copied" in done.err
        assert len(done.err) < 4000
    pybuild("build", dockerfile(2000, "FROM base\nCOPY --from=a /x /y\nRUN true\n"))
    pybuild("prune", "-a", "-f")
    assert list((pybuild.store / "snapshots").iterdir()) == []


def test_raw_sockets_of_the_host_are_not_for_user_namespaces(base: Path, tmp_path: Path) -> None:
    """As real root a step has CAP_NET_RAW in the host's network: see docs/decisions.md."""
    workers = Workers(rootless=True)
    box = Box(tmp_path, (base,), workers)
    script = "import socket\nfor f, p in ((2, 1), (17, 768)):\n"
    script += "    try: socket.socket(f, 3, p); print('made')\n"
    script += "    except OSError as error: print(error.strerror)\n"
    program = ("/usr/bin/python3", "-I", "-S", "-c", script)
    done = box.run(*program, mounts=HOST_PROGRAMS)
    assert done.out == "Operation not permitted\n" * 2
    done = box.run(*program, mounts=HOST_PROGRAMS, network="none")
    assert done.out == "made\n" * 2
    asyncio.run(workers.close())
