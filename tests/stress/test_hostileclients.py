"""The clients of `tests.stress.hostileclients`, fewer of them [ENG-20, ENG-35]."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.harness import make_base
from tests.needs import need
from tests.stress.hostileclients import ROUTES, stress

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.root]


@pytest.mark.parametrize(
    ("what", "count", "routes"), [("idle", 300, ROUTES), ("unread", 6, ROUTES[:3])]
)
def test_clients_that_take_places_or_stop_reading(
    tmp_path: Path, what: str, count: int, routes: Sequence[str]
) -> None:
    """Attached ones, which hold a container up for a minute, are the command line's, and a test's of `Streams`."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("nsenter")
    with network_namespace() as pid:
        pybuild = NetworkedPybuild(tmp_path / "store", pid=pid)
        make_base(pybuild, tmp_path / "context", "base:1")
        summary = stress(what, pybuild, tmp_path, count, routes)
    assert summary.wrong == []
