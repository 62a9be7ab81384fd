"""A bench for file ops, a small tree, and a repository that is served, as most tests of them want it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.executor.files.tree import Tree
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


@pytest.fixture
def tree(root: Path) -> Generator[Tree]:
    """A small tree, opened where it lies, at *root*."""
    (root / "d").mkdir(parents=True)
    (root / "f").write_text("old")
    (root / "f").chmod(0o600)
    (root / "l").symlink_to("d")
    with Tree.open(str(root)) as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"
