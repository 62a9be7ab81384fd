"""Steps that mean harm to more than their rung (see tests/executor/contract): disk, races, depth."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import UserError
from tests.executor.sandbox_helpers import (
    HOST_PROGRAMS,
    Box,
    make_base,
    run_in,
    skip_unless_possible,
)
from tests.harness import Pybuild, write
from tests.harness import make_base as make_image
from tests.needs import need

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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "small", str(place)]
    if subprocess.run(command, check=False, timeout=60).returncode:
        pytest.skip("cannot mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=60)


def test_filling_the_disk(base: Path, small_disk: Path) -> None:
    workers = Workers()
    box = Box(small_disk, (base,), workers)
    done = box.sh("cat /dev/zero > /big; echo status $?; rm /big; echo room > /f; cat /f")
    assert "No space left on device" in done.err
    assert done.out == "status 1\nroom\n"
    asyncio.run(workers.close())


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
    need("gcc", "busybox")
    try:
        _build_deep_trees(Pybuild(tmp_path / "store"), tmp_path)
    finally:  # which shutil cannot delete
        directories = [str(tmp_path / name) for name in ("store", "local")]
        subprocess.run(["rm", "-rf", *directories], check=True, timeout=60)


def _build_deep_trees(pybuild: Pybuild, tmp_path: Path) -> None:
    make_image(pybuild, tmp_path / "image", "base")
    context = write(tmp_path / "c", **{"deep.c": _DEEP})
    compiled = ["gcc", "-static", "-o", str(context / "deep"), str(context / "deep.c")]
    if subprocess.run(compiled, check=False, timeout=60).returncode:
        pytest.skip("needs a libc to link statically (apt install libc6-dev)")

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
    # The paths of so many take the square of their number, in memory and in a layer.
    for output in ("oci", "local", "tar"):
        where = f"type={output},dest={tmp_path}/{output}"
        done = pybuild("build", "-o", where, dockerfile(20_000, ""), code=1)
        assert "no image holds paths of more than 32768 bytes" in done.err
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
