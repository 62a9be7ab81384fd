"""The process that flushes a store after a build, and builds that leave none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def holders(store: Path) -> list[str]:
    """Return the processes that have something of the store open."""
    held: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held += [
                p
                for fd in (process / "fd").iterdir()
                if (p := os.readlink(fd)).startswith(str(store))
            ]
        except OSError:
            continue
    return held


def test_nothing_outlives_a_build_that_is_to_leave_nothing(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    """A file system could not be unmounted for a moment after a build."""
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    pybuild("build", "--no-background", "-t", "a", context)
    assert holders(pybuild.store) == []


def test_prune_waits_for_what_a_build_left_to_others(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    pybuild("build", "-t", "a", context)
    pybuild("prune", "-f")
    assert holders(pybuild.store) == []
