"""Differences in which a layer comes twice are merges [remote-api 9]."""

from __future__ import annotations

from pybuild.buildkit.llb import layered
from pybuild.buildkit.pb import ops as pb
from pybuild.model.ops import DiffOp, FileOp, MergeOp, Mkdir, Vertex
from tests.buildkit.llbs import Builder, file_op, mkdir, read_all

Edge = tuple[str, int]


def merge(builder: Builder, *trees: Edge) -> Edge:
    inputs = [pb.MergeInput(input=number) for number in range(len(trees))]
    return builder.add(pb.Op(merge=pb.MergeOp(inputs=inputs)), *trees)


def diff(builder: Builder, lower: Edge, upper: Edge) -> Edge:
    op = pb.DiffOp(lower=pb.LowerDiffInput(input=0), upper=pb.UpperDiffInput(input=1))
    return builder.add(pb.Op(diff=op), lower, upper)


def made(vertex: Vertex) -> str:
    """Return the last directory that a tree has by its own op."""
    assert isinstance(vertex.op, FileOp)
    (action,) = vertex.op.actions
    assert isinstance(action, Mkdir)
    return action.path


def test_a_layer_that_comes_again_belongs_to_the_difference() -> None:
    builder = Builder()
    one = builder.add(file_op(mkdir("/1", -1, 0)))
    two = builder.add(file_op(mkdir("/2", 0, 0)), one)
    three = builder.add(file_op(mkdir("/3", -1, 0)))
    upper = builder.add(file_op(mkdir("/4", 0, 0)), merge(builder, two, three, one))
    found = read_all(builder.end(diff(builder, one, upper))).result
    assert isinstance(found.op, MergeOp)
    first, second, third, last = found.inputs
    assert (made(second), made(third)) == ("/3", "/1")
    for part, lower, path in ((first, "/1", "/2"), (last, "", "/4")):
        assert isinstance(part.op, DiffOp)
        assert made(part.inputs[1]) == path
        assert not lower or made(part.inputs[0]) == lower


def test_other_differences_stay_what_they_are() -> None:
    builder = Builder()
    one = builder.add(file_op(mkdir("/1", -1, 0)))
    two = builder.add(file_op(mkdir("/2", 0, 0)), one)
    other = builder.add(file_op(mkdir("/3", -1, 0)))
    again = merge(builder, two, other, one)
    for lower, upper in (
        (one, two),
        (one, merge(builder, two, other)),  # no layer comes twice
        (other, again),  # nor is one built on the other
        (two, one),
    ):
        copy = Builder()
        copy.definition.CopyFrom(builder.definition)
        found = read_all(copy.end(diff(copy, lower, upper))).result
        assert isinstance(found.op, DiffOp)


def test_a_stranger_s_definition_is_looked_at_only_so_far() -> None:
    builder = Builder()
    one = builder.add(file_op(mkdir("/1", -1, 0)))
    tree = one
    for number in range(300):
        tree = builder.add(file_op(mkdir(f"/{number}", 0, 0)), tree)
    found = read_all(builder.end(diff(builder, one, merge(builder, tree, one)))).result
    assert isinstance(found.op, DiffOp)
    assert layered.MOST_DIFFERENCES >= 1
