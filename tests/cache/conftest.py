"""A store in a scratch folder, on a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from tests.cache.builders import Builder
from tests.clocks import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path, clock: FakeClock, warnings: list[str]) -> Iterator[Store]:
    with Store.open(root, clock, warn=warnings.append) as opened:
        yield opened


@pytest.fixture
def builder(root: Path, clock: FakeClock) -> Builder:
    return Builder(root, clock)
