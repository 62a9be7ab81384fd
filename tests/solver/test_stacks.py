"""Joining and cutting stacks of deltas."""

from __future__ import annotations

from pybuild.model.ops import FileOp, MergeOp, Mkdir, ScratchSource, Vertex
from pybuild.model.snapshot import Snapshot, stacked
from pybuild.solver.stacks import composed, difference


def test_merge_keeps_a_delta_where_it_is_uppermost() -> None:
    joined = stacked([Snapshot(("b", "x")), Snapshot(("b", "y")), Snapshot(("x",))])
    assert joined == Snapshot(("b", "y", "x"))


def test_merge_of_nothing_is_scratch() -> None:
    assert stacked([]) == Snapshot()


def test_difference_cuts_what_is_below() -> None:
    assert difference(Snapshot(("a",)), Snapshot(("a", "b", "c"))) == Snapshot(("b", "c"))
    assert difference(Snapshot(("b",)), Snapshot(("a", "b"))) is None


def test_only_trees_that_can_hide_nothing_are_joined_unseen() -> None:
    one, two = Snapshot(("a",)), Snapshot(("b",))
    scratch = Vertex(ScratchSource())
    made = Vertex(FileOp(actions=(Mkdir(path="/d"),)), (scratch,))
    changed = Vertex(FileOp(actions=(Mkdir(path="/e"),)), (made,))
    assert composed(Vertex(MergeOp(), (changed, made)), [one, two]) == Snapshot(("a", "b"))
    assert composed(Vertex(MergeOp(), (made, changed)), [one, two]) is None
