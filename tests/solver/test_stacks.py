"""Joining stacks of deltas."""

from __future__ import annotations

from pybuild.model.ops import DiffOp, FileOp, MergeOp, Mkdir, ScratchSource, Vertex
from pybuild.model.snapshot import Snapshot, stacked
from pybuild.solver.stacks import composed


def test_merge_keeps_a_delta_where_it_is_uppermost() -> None:
    joined = stacked([Snapshot(("b", "x")), Snapshot(("b", "y")), Snapshot(("x",))])
    assert joined == Snapshot(("b", "y", "x"))


def test_merge_of_nothing_is_scratch() -> None:
    assert stacked([]) == Snapshot()


def test_a_tree_does_not_differ_from_itself() -> None:
    scratch = Vertex(ScratchSource())
    one = Snapshot(("a", "b"))
    same = Vertex(DiffOp(), (scratch, scratch))
    assert composed(same, [one, one]) == Snapshot()
    assert composed(same, [Snapshot(("a",)), one]) is None


def test_only_trees_that_can_hide_nothing_are_joined_unseen() -> None:
    one, two = Snapshot(("a",)), Snapshot(("b",))
    scratch = Vertex(ScratchSource())
    made = Vertex(FileOp(actions=(Mkdir(path="/d"),)), (scratch,))
    changed = Vertex(FileOp(actions=(Mkdir(path="/e"),)), (made,))
    assert composed(Vertex(MergeOp(), (changed, made)), [one, two]) == Snapshot(("a", "b"))
    assert composed(Vertex(MergeOp(), (made, changed)), [one, two]) is None
