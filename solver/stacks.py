"""Composing file trees by joining and cutting their stacks of deltas, without touching a file."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.model.ops import DiffOp, MergeOp, Vertex
from pybuild.model.snapshot import Result, Snapshot


def merge(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the trees stacked on each other, the last one on top.

    A delta that comes twice stays only where it is uppermost: there it already hides everything
    that its lower copy could contribute, and a kernel mounts a directory once in a stack.
    """
    seen: dict[str, None] = {}
    for snapshot in reversed(snapshots):
        for delta in reversed(snapshot.deltas):
            seen.setdefault(delta)
    return Snapshot(tuple(reversed(seen)))


def difference(lower: Snapshot, upper: Snapshot) -> Snapshot | None:
    """Return the changes of *upper* over *lower* if it is stacked on it; None otherwise."""
    cut = len(lower.deltas)
    if upper.deltas[:cut] != lower.deltas:
        return None
    return Snapshot(upper.deltas[cut:])


def composed(vertex: Vertex, inputs: Sequence[Result]) -> Snapshot | None:
    """Return the result of an op that only composes stacks; None where files must be looked at."""
    snapshots = [i for i in inputs if isinstance(i, Snapshot)]
    if len(snapshots) < len(inputs):
        return None
    match vertex.op:
        case MergeOp():
            return merge(snapshots)
        case DiffOp() if len(snapshots) == 2:
            return difference(*snapshots)
        case _:
            return None
