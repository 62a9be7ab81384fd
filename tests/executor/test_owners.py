"""Owners of copies: which numbers are ids [CP-21]."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.executor.files.owners import resolve
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import Fault


@pytest.mark.parametrize(
    ("user", "group", "ids"),
    [
        ("0", None, (0, 0)),
        ("7", "8", (7, 8)),
        ("7", "", (7, 7)),
        ("4294967294", None, (4294967294, 4294967294)),
        ("1234567890", "4294967294", (1234567890, 4294967294)),
        ("0000000012", None, (12, 12)),
    ],
)
def test_numbers_are_ids(
    tmp_path: Path, user: str, group: str | None, ids: tuple[int, int]
) -> None:
    with Tree.open(str(tmp_path)) as tree:
        assert resolve(tree, user, group, is_scratch=True) == ids


@pytest.mark.parametrize("number", ["4294967295", "9999999999", "00000000001", "9" * 5000])
def test_numbers_above_the_last_id_are_refused(tmp_path: Path, number: str) -> None:
    with Tree.open(str(tmp_path)) as tree:
        for user, group in ((number, None), ("0", number)):
            with pytest.raises(Fault, match="out of range: ids go from 0 to 4294967294"):
                resolve(tree, user, group, is_scratch=True)
