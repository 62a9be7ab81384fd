"""Joining and cutting stacks of deltas."""

from __future__ import annotations

from pybuild.model.snapshot import Snapshot
from pybuild.solver.stacks import difference, merge


def test_merge_keeps_a_delta_where_it_is_uppermost() -> None:
    joined = merge([Snapshot(("b", "x")), Snapshot(("b", "y")), Snapshot(("x",))])
    assert joined == Snapshot(("b", "y", "x"))


def test_merge_of_nothing_is_scratch() -> None:
    assert merge([]) == Snapshot()


def test_difference_cuts_what_is_below() -> None:
    assert difference(Snapshot(("a",)), Snapshot(("a", "b", "c"))) == Snapshot(("b", "c"))
    assert difference(Snapshot(("b",)), Snapshot(("a", "b"))) is None
