"""A store of its own for each test, and a base image in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.networked import NetworkedPybuild, devices, network_namespace
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild, leftovers, make_base
from tests.needs import need


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    """A store of this test alone."""
    return Pybuild(tmp_path / "store")


@pytest.fixture(scope="session")
def base_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds nothing but the base image; to be copied, never used."""
    where = tmp_path_factory.mktemp("base")
    made = Pybuild(where / "store")
    make_base(made, where / "context", "base")
    return made.store


@pytest.fixture
def base(pybuild: Pybuild, base_store: Path) -> str:
    """The name of a busybox image in the store."""
    subprocess.run(["cp", "-a", base_store, pybuild.store], check=True, timeout=60)
    return "base"


@pytest.fixture
def machine(pybuild: Pybuild, base: str) -> Generator[Pybuild]:
    """A store with the image *base*, in which nothing runs afterwards."""
    assert base
    yield pybuild
    ids = pybuild("ps", "-aq", code=None).out.split()
    if ids:
        pybuild("rm", "-fv", *ids)
    wait_until(lambda: not leftovers(pybuild.store))


@pytest.fixture
def networked(pybuild: Pybuild, base: str) -> Generator[NetworkedPybuild]:
    """A store with the image *base* on a machine that has nothing but a loopback device."""
    assert base
    need("nsenter")
    need("ip")
    need("nft")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with network_namespace() as pid:
        made = NetworkedPybuild(pybuild.store, pybuild.config, pid)
        yield made
        ids = made("ps", "-aq", code=None).out.split()
        if ids:
            made("rm", "-f", *ids)
        wait_until(lambda: not leftovers(pybuild.store))
        wait_until(lambda: devices(made, "veth") == [])
