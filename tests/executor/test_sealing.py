"""A step whose tree cannot be sealed has failed: nothing of it may be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import EnvironmentFault
from tests.executor import zygote_functions
from tests.executor.sandbox_helpers import Box, make_base, skip_unless_possible

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    skip_unless_possible()
    workers = Workers()
    yield Box(tmp_path, (make_base(tmp_path / "base"),), workers)
    asyncio.run(workers.close())


def test_a_sealing_worker_that_ends_without_a_word_fails_the_step(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.executor.workers.workers.sealing.seal", zygote_functions.die)
    with pytest.raises(EnvironmentFault, match="zygote_functions:die ended without a result"):
        box.run("/bin/true", network="host")
    assert box.run("/bin/true", network="none").status == 0


def test_a_tree_that_cannot_be_taken_over_fails_the_step(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no number left for a descriptor, the kernel drops it and says nothing."""
    monkeypatch.setattr("pybuild.executor.workers.process._DESCRIPTOR_SPACE", 0)
    with pytest.raises(EnvironmentFault, match="too many open files"):
        box.run("/bin/true", network="host")
