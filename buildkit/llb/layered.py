"""Differences of trees one of which is built on the other, and in which a layer comes twice.

BuildKit applies the layers that one tree has more than the other, and a layer may come again among them: what
it holds belongs to the difference, though the lower tree has it, too. A stack of ours has each delta once, so there
the difference is written as the merge of those layers.
"""

from __future__ import annotations

from pybuild.model.ops import (
    DiffOp,
    ExecOp,
    FileOp,
    MergeOp,
    PassOp,
    ScratchSource,
    Vertex,
    VertexMeta,
)

MOST_DIFFERENCES = 1_000
"""Of a definition that are looked at so: what comes is a stranger's."""
_MOST = 200


def layered(lower: Vertex, upper: Vertex, meta: VertexMeta) -> Vertex | None:
    """Return the merge that the difference of two trees stands for; None where it is simply a difference."""
    parts = _rest(lower, upper)
    if parts is None or len(parts) < 2 or not _comes_twice(upper):
        return None
    return Vertex(MergeOp(), tuple(parts), meta)


def _rest(lower: Vertex, upper: Vertex) -> list[Vertex] | None:
    """Return the trees of the layers that *upper* has above *lower*, the lowest first; None if it is not built on it."""
    parts: list[Vertex] = []
    at = upper
    while at != lower:
        if isinstance(at.op, MergeOp):
            parts.extend(reversed(at.inputs[1:]))
            at = at.inputs[0]
            continue
        base = _base(at)
        if base is None or len(parts) > _MOST:
            return None
        parts.append(Vertex(DiffOp(), (base, at), at.meta))
        at = base
    parts.reverse()
    return parts


def _base(vertex: Vertex) -> Vertex | None:
    """Return the tree that an op puts a layer on; None for what is a tree by itself."""
    number: int | None = None
    match vertex.op:
        case FileOp():
            number = 0
        case ExecOp(mounts=mounts):
            results = [mount for mount in mounts if mount.output]
            roots = [mount for mount in mounts if mount.target == "/"]
            number = (results or roots)[0].input if results or roots else None
        case PassOp(output=output):
            return vertex.inputs[output]
        case _:
            return None
    if number is None or isinstance(vertex.inputs[number].op, ScratchSource):
        return None
    return vertex.inputs[number]


def _comes_twice(tree: Vertex) -> bool:
    """Whether a layer comes twice in the stack of *tree*."""
    seen: set[Vertex] = set()
    pending = [tree]
    while pending and len(seen) <= _MOST:
        at = pending.pop()
        if isinstance(at.op, MergeOp):
            pending.extend(at.inputs)
            continue
        if isinstance(at.op, DiffOp) and (parts := _rest(*at.inputs)) is not None and parts != [at]:
            pending.extend(parts)
            continue
        if at in seen:
            return True
        seen.add(at)
        base = None if isinstance(at.op, DiffOp) else _base(at)
        if base is not None:
            pending.append(base)
    return False
