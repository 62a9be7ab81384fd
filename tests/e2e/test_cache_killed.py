"""Issue 6, show 4, in small: ``kill -9`` at random moments with a cache elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.caches import Machines
from tests.e2e.killedcaches import LONGEST_S, kill
from tests.needs import need
from tests.services import start_registry

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(params=["directory", "registry"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "directory":
        yield str(tmp_path / "cache")
        return
    need("docker-registry")
    with start_registry(tmp_path) as registry:
        yield f"{registry.host}/killed/cache:1"


def test_a_step_that_was_announced_as_done_never_runs_again(
    base_store: Path, tmp_path: Path, place: str
) -> None:
    """The full run is ``python -m tests.e2e.killedcaches``."""
    machines = Machines(tmp_path, base_store)
    chance = random.Random(20261127)
    found = [
        kill(machines, place, str(number), chance.uniform(0.0, 0.5 * LONGEST_S), since_one_ran=True)
        for number in range(3)
    ]
    assert sum(k.finished for k in found) > 0, "all were killed before anything was made"
    assert [k.lost_ages_s for k in found] == [(), (), ()]
