"""A step whose tree cannot be sealed has failed: nothing of it may be kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.steps.spec import StepMount, StepMountType, StepStart
from pybuild.executor.workers.job import RunningJob
from pybuild.executor.workers.process import ZygoteProcess
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import EnvironmentFault
from tests.executor import zygote_functions
from tests.executor.sandbox_helpers import Box, make_base, skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    skip_unless_possible()
    made = Workers()
    yield Box(tmp_path, (make_base(tmp_path / "base"),), made)
    asyncio.run(made.close())


def test_a_sealing_worker_that_ends_without_a_word_fails_the_step(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.executor.workers.stepprocess.sealing.seal", zygote_functions.die)
    with pytest.raises(EnvironmentFault, match="zygote_functions:die ended without a result"):
        box.run("/bin/true", network="host")
    assert box.run("/bin/true", network="none").status == 0


@pytest.mark.parametrize(("readonly", "trees"), [(False, 2), (True, 1)])
def test_mounts_whose_writes_are_kept_are_sealed_too(
    box: Box, monkeypatch: pytest.MonkeyPatch, readonly: bool, trees: int
) -> None:
    handed_over: list[int] = []
    begin = ZygoteProcess.begin

    def noting(
        zygote: ZygoteProcess, start: StepStart | str, fds: Sequence[int], request: Any
    ) -> RunningJob:
        if request[0] == "pybuild.executor.zygote.sealing:seal":
            handed_over.extend(map(os.dup, fds))
        return begin(zygote, start, fds, request)

    monkeypatch.setattr(ZygoteProcess, "begin", noting)
    kept = [box.directory / name for name in ("upper", "work")]
    for path in kept:
        path.mkdir()
    upper, work = ("", "") if readonly else map(str, kept)
    mount = StepMount(
        type=StepMountType.BIND_OVERLAY,
        target="/m",
        lowers=tuple(map(str, box.lowers)),
        upper=upper,
        work=work,
        readonly=readonly,
    )
    script = "true" if readonly else "echo made > /m/made"
    assert box.sh(script, network="host", mounts=(mount,)).status == 0
    assert len(handed_over) == trees
    for fd in handed_over:
        assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
        os.close(fd)
    assert readonly or (kept[0] / "made").read_text() == "made\n"


def test_a_tree_that_cannot_be_taken_over_fails_the_step(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no number left for a descriptor, the kernel drops it and says nothing."""
    monkeypatch.setattr("pybuild.executor.workers.process.DESCRIPTOR_SPACE", 0)
    with pytest.raises(EnvironmentFault, match="too many open files"):
        box.run("/bin/true", network="host")
