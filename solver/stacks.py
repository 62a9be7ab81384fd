"""Composing file trees by joining their stacks of deltas, without touching a file."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.model.ops import (
    DiffOp,
    FileOp,
    HttpSource,
    MergeOp,
    PassOp,
    ScratchSource,
    Vertex,
)
from pybuild.model.snapshot import Result, Snapshot, stacked


def composed(vertex: Vertex, inputs: Sequence[Result]) -> Snapshot | None:
    """Return the result of an op that only composes stacks; None where files must be looked at."""
    snapshots = [i for i in inputs if isinstance(i, Snapshot)]
    if len(snapshots) < len(inputs):
        return None
    match vertex.op:
        case MergeOp() if all(map(_hides_nothing, vertex.inputs[1:])):
            return stacked(snapshots)
        case PassOp(output=output):
            return snapshots[output]
        case DiffOp() if snapshots[0] == snapshots[1]:
            return Snapshot()
        case _:
            return None


def _hides_nothing(vertex: Vertex) -> bool:
    """Whether a tree is one delta by definition, made on nothing: there was nothing for it to hide."""
    match vertex.op:
        case ScratchSource() | HttpSource():
            return True
        case FileOp():
            return isinstance(vertex.inputs[0].op, ScratchSource)
        case _:
            return False
