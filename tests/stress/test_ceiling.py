"""The stress of `tests.stress.ceiling`, in small; the figures of the large one are its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stress.ceiling import run
from tests.stress.disks import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.sandbox,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]


def test_random_builds_by_two_builders_stay_below_the_ceiling(tmp_path: Path) -> None:
    """One of them is killed; every file is what it should be, every kept image whole."""
    ceiling = 150_000_000
    summary = run(
        builds=24,
        builders=2,
        ceiling=ceiling,
        unit=ceiling // 60,
        seed=3,
        kills=1,
        where=tmp_path,
        patience=300,
    )
    assert summary.wrong == []
    # A loaded machine may look late: two in a hundred are for the large run, on a quiet one.
    assert summary.highest <= ceiling * 1.1
    assert summary.ended["killed"] == 1
    assert summary.drift < 0.01
