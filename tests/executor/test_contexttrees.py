"""Directories of the client as inputs: when one can be mounted as it lies."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.executor.trees.contexttrees import ContextTrees
from pybuild.model.snapshot import LocalTree
from tests.clocks import FakeClock
from tests.harness import write


@pytest.mark.parametrize(
    ("exclude", "held", "mountable", "is_mounted"),
    [
        ((), True, True, True),
        (("gone", "*.tmp"), True, True, True),
        (("b",), True, True, False),
        ((), True, False, False),
        ((), False, False, False),
    ],
    ids=["all of it", "nothing is hidden", "one is hidden", "of others", "in use by the client"],
)
def test_a_directory_is_mounted_as_it_lies_if_the_key_counts_all_of_it(
    tmp_path: Path, exclude: tuple[str, ...], held: bool, mountable: bool, is_mounted: bool
) -> None:
    """[CTX-2, KEY-12] A client that sends what its own patterns hide gains nothing by that."""
    context = write(tmp_path / "c", a="a", b="b")
    tree = LocalTree(str(context), exclude, held=held, mountable=mountable)
    with Store.open(tmp_path / "store", FakeClock()) as store:
        trees = ContextTrees(store)
        found = asyncio.run(trees.lower(tree))
    assert found == (str(context) if is_mounted else None)
