"""``--cache-max``: builds stay below it, and say so where they cannot [GC-2, GC-5]."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.cache.disk.extent import measure
from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def test_builds_make_room_and_one_that_is_too_large_names_the_ceiling(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="")
    for number in range(4):
        write(
            context,
            Dockerfile="FROM base\n"
            f"RUN echo {number} > /n && busybox dd if=/dev/urandom of=/f bs=1M count=12\n",
        )
        pybuild("build", "--cache-max", "40MB", "-o", "type=cacheonly", context)
        assert measure(str(pybuild.store)) < 40_000_000
    write(context, Dockerfile="FROM base\nRUN busybox dd if=/dev/zero of=/f bs=1M count=4000\n")
    failed = pybuild("build", "--cache-max", "40MB", context, code=None)
    assert failed.code == 3
    assert "would take more than its ceiling of 40.00MB (--cache-max), and nothing" in failed.err
    assert ">>> RUN busybox dd" in failed.err
    assert leftovers(pybuild.store) == []
    assert pybuild("inspect", "--check", "base").code == 0
