"""A bench for file ops, and a repository that is served, as most tests of them want it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.executor.filetrees import Bench
from tests.executor.gitsites import Remote
from tests.gitservers import git_daemon


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def remote(tmp_path: Path) -> Generator[Remote]:
    base = tmp_path / "served"
    base.mkdir()
    with git_daemon(base) as url:
        yield Remote(base, url)
