"""``kill -9`` at random moments: the store opens, the next build succeeds, nothing stays behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

MOMENTS = 50

DOCKERFILE = """\
FROM base AS a
COPY tree/ /tree/
RUN for i in 1 2 3 4 5 6 7 8; do echo $i > /f$i; done
RUN sleep 0.1 && rm /f1
FROM base AS b
RUN mkdir /d && echo b > /d/b
RUN sleep 0.1 && echo c > /d/c
FROM base
COPY --from=a /tree /tree
COPY --from=b /d /d
RUN sleep 0.05 && cat /d/b /d/c > /out
"""


def test_kill_at_any_moment_leaves_a_store_that_opens_clean(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """Shows 5: fifty kills, each at another moment of the same build."""
    files = {f"tree/{n // 10}/{n}": "x" * n for n in range(200)}
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE, **files)
    begun = time.monotonic()
    pybuild("build", "--no-cache", "-t", "app", context)
    whole = time.monotonic() - begun
    moments = random.Random(20261123)
    killed = 0
    for number in range(MOMENTS):
        words = ["build", "--progress", "plain", "-t", "app"]
        words += ["--no-cache"] if number % 2 else ["--build-arg", f"N={number}"]
        process = subprocess.Popen(
            pybuild.command(*words, context),
            env=pybuild.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.02, max(0.1, whole)))
        if process.poll() is None:
            killed += 1
        else:  # the machine is less busy than it was
            whole *= 0.8
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        _wait_until_clean(pybuild.store)
        if number % 10 == 9:
            pybuild("build", "--no-cache", "-t", "app", context)
            assert pybuild("inspect", "--check", "app").code == 0
            assert pybuild("run", "app", "cat", "/out").out == "b\nc\n"
    assert killed > MOMENTS // 5, "the moments missed the build"
    pybuild("build", "-t", "app", context)

    def is_cleared() -> bool:
        """Each command clears away for a second what the killed ones left."""
        pybuild("du")
        return not any((pybuild.store / "tmp").iterdir())

    _wait_until(is_cleared, "tmp/ is empty", pybuild.store)


def test_ctrl_c_ends_soon_and_cleanly(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN echo begun && sleep 6000\n")
    process = subprocess.Popen(
        pybuild.command("build", "--progress", "plain", context),
        env=pybuild.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith("begun") and "RUN" not in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert leftovers(pybuild.store) == []
    pybuild("build", write(tmp_path / "ok", Dockerfile="FROM base\nRUN true\n"))


def test_a_full_disk_is_one_clear_error_and_half_stores_nothing(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], check=True, timeout=60
    )
    try:
        tight = Pybuild(small / "store")
        from tests.harness import make_base

        make_base(tight, tmp_path / "base", "base")
        context = write(tmp_path / "ctx", Dockerfile="FROM base\nCOPY big /\n")
        (context / "big").write_bytes(os.urandom(30 << 20))
        done = tight("build", context, code=3)
        assert "no space left" in done.err.lower()
        (context / "big").write_bytes(b"small")
        tight("build", "-t", "app", context)
        assert tight("run", "app", "cat", "/big").out == "small"
    finally:
        subprocess.run(["umount", "-l", small], check=True, timeout=60)


def _wait_until_clean(store: Path) -> None:
    _wait_until(lambda: leftovers(store) == [], "no mount and no process is left", store)


def _wait_until(holds: object, what: str, about: object) -> None:
    """The kernel ends a killed process's children a moment later."""
    assert callable(holds)
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, f"{what}: not so for {about}"
        time.sleep(0.02)
