"""The load of `tests.stress.apiload`, in small [ENG-13, MON-1]."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.harness import make_base
from tests.needs import need
from tests.stress.apiload import stress

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.root]


@pytest.mark.parametrize("what", ["load", "kills"])
def test_clients_at_once_and_servers_that_are_killed(tmp_path: Path, what: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("nsenter", "docker")
    with network_namespace() as pid:
        pybuild = NetworkedPybuild(tmp_path / "store", pid=pid)
        make_base(pybuild, tmp_path / "context", "base:1")
        summary = stress(what, pybuild, tmp_path, 2, 1)
    assert summary.wrong == []
