"""The facts of ``info``: this machine, and the store's images and containers [ENG-1, RUN-26]."""

from __future__ import annotations

import os
from pathlib import Path

from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.containers import Containers
from pybuild.containers.machine import machine_facts
from pybuild.containers.names import new_id
from pybuild.model.package import VERSION
from tests.clocks import FakeClock


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    facts = machine_facts(root)
    assert (facts["Images"], facts["Containers"], facts["DockerRootDir"]) == (0, 0, root)
    assert not os.path.exists(root)
    assert (facts["OSType"], facts["ServerVersion"]) == ("linux", VERSION)
    assert facts["KernelVersion"] == os.uname().release and facts["Name"] == os.uname().nodename
    assert facts["NCPU"] == os.cpu_count() and facts["OperatingSystem"]
    assert facts["MemTotal"] > 1 << 20


def test_containers_are_counted(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    with Store.open(root, FakeClock()) as store:
        for name in ("one", "two"):
            Containers(store).create(
                ContainerConfig(id=new_id(), name=name, image="base", manifest="", deltas=())
            )
    facts = machine_facts(root)
    assert (facts["Images"], facts["Containers"]) == (0, 2)
