"""A bench for file ops, as most tests of them want it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.executor.filetrees import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
