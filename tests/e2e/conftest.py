"""A store of its own for each test, and a base image in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Pybuild, make_base


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    """A store of this test alone."""
    return Pybuild(tmp_path / "store")


@pytest.fixture
def base(pybuild: Pybuild, tmp_path: Path) -> str:
    """The name of a busybox image in the store."""
    make_base(pybuild, tmp_path / "base", "base")
    return "base"
