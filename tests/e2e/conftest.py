"""A store of its own for each test, and a base image in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness import Pybuild, make_base


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
