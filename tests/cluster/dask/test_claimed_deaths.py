"""Workers that are killed while steps begin by claims [issue 18, A2]; ``PYBUILD_CLUSTER_DEATHS=N`` as without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.dask.processes import needs_dask, running_engine
from tests.cluster.test_deaths import build_with_deaths
from tests.executor.sandbox_helpers import skip_unless_possible


@pytest.mark.slow
@pytest.mark.sandbox
@needs_dask
def test_a_death_at_any_moment_changes_no_image_with_claims(tmp_path: Path) -> None:
    """The agent dies with its worker, and with it the claims of what ran there."""
    skip_unless_possible()
    with running_engine() as engine:
        build_with_deaths(tmp_path, engine.address)


@pytest.mark.slow
@pytest.mark.sandbox
@needs_dask
def test_dying_workers_and_a_dying_scheduler_at_once(tmp_path: Path) -> None:
    """Claims are void, and made again, in any order with what happens to the workers."""
    skip_unless_possible()
    with running_engine() as engine, engine.dying():
        build_with_deaths(tmp_path, engine.address)
