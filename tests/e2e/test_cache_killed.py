"""Issue 6, show 4, in small: ``kill -9`` at random moments with a cache elsewhere."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.caches import Machines
from tests.e2e.killedcaches import LONGEST_S, kill

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def test_a_killed_build_loses_what_ran_and_no_more(base_store: Path, tmp_path: Path) -> None:
    """The summary of the full run says how much; what a writer at the end only keeps is nothing."""
    machines = Machines(tmp_path, base_store)
    chance = random.Random(20261126)
    found = [
        kill(
            machines,
            str(tmp_path / "cache"),
            str(number),
            chance.uniform(0.8 * LONGEST_S, LONGEST_S),
        )
        for number in range(3)
    ]
    finished, lost = sum(k.finished for k in found), sum(len(k.lost_ages_s) for k in found)
    assert finished > 0, "all were killed before anything was made"
    assert lost < finished
