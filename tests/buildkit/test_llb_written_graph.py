"""Merges, differences, and what stands beside an op in a definition [remote-api 9]."""

from __future__ import annotations

from dataclasses import replace

from pybuild.buildkit.llb.write import WriteOptions, write, written
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    DiffOp,
    MergeOp,
    Vertex,
    VertexMeta,
)
from pybuild.model.span import Span
from tests.buildkit.vertices import FILE, IMAGE, SCRATCH, STEP, comes_back, op_of


def test_what_is_merged_with_nothing_is_itself() -> None:
    definition, edges = written(Vertex(MergeOp(), (SCRATCH, IMAGE)))
    assert len(definition.defs) == 2
    assert edges[SCRATCH.digest] is None
    both = Vertex(MergeOp(), (IMAGE, SCRATCH, FILE))
    made = op_of(both)
    assert [one.input for one in made.merge.inputs] == [0, 1] and len(made.inputs) == 2


def test_a_difference_names_both_sides() -> None:
    made = op_of(Vertex(DiffOp(), (IMAGE, FILE)))
    assert (made.diff.lower.input, made.diff.upper.input) == (0, 1)
    comes_back(Vertex(DiffOp(), (IMAGE, FILE)))
    made = op_of(Vertex(DiffOp(), (IMAGE, SCRATCH)))
    assert (made.diff.lower.input, made.diff.upper.input) == (0, -1)


def test_the_kind_of_an_op_comes_after_its_other_fields() -> None:
    """As BuildKit's encoder has it: its debugger looks for the digest of what it encodes anew."""
    data = write(Vertex(STEP, (IMAGE,))).defs[-2]
    op = pb.Op.FromString(data)
    assert op.inputs and op.platform.OS
    kind = pb.Op(exec=op.exec).SerializeToString()
    assert data.endswith(kind) and not op.SerializeToString().endswith(kind)


def test_names_and_lines_stand_once_beside_an_op_that_two_vertices_are() -> None:
    meta = VertexMeta(name="one", spans=(Span("D", 1, 2), Span("E", 3, 3), Span("D", 5, 5)))
    one, other = replace(FILE, meta=meta), replace(FILE, meta=replace(meta, spans=()))
    definition = write(Vertex(MergeOp(), (one, other)), WriteOptions(files={"D": b"text"}))
    assert len(definition.defs) == 3
    source = definition.Source
    assert [(info.filename, info.data) for info in source.infos] == [("D", b"text"), ("E", b"")]
    (where,) = source.locations.values()
    assert [
        (place.sourceIndex, place.ranges[0].start.line, place.ranges[0].end.line)
        for place in where.locations
    ] == [(0, 1, 2), (1, 3, 3), (0, 5, 5)]
    metadata = definition.metadata[Digest.of(definition.defs[0])]
    assert metadata.description["llb.customname"] == "one" and not metadata.ignore_cache
