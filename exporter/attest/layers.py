"""The layers of each step of a result, as far as they are known without running any step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pybuild.cache.records.imported import is_link
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    ExecOp,
    FileOp,
    ImageSource,
    MergeOp,
    OciLayoutSource,
    ScratchSource,
    Vertex,
    walk,
)

Deltas = tuple[str, ...]
Known = Callable[[Vertex], Deltas | None]
OfImage = Callable[[Digest], Deltas | None]
Describe = Callable[[Deltas], list[dict[str, Any]] | None]


def stacks(result: Vertex, deltas: Deltas, known: Known, of_image: OfImage) -> dict[Digest, Deltas]:
    """Return the layers' deltas of *result* and of the vertices below it, by their digests.

    A step adds one delta to what it starts from, so from the result's stack follow those of all
    that it stands on; *known* tells of others, and *of_image* what a manifest has.
    """
    order = list(walk(result))
    by_vertex: dict[Digest, Deltas] = {result.digest: deltas}
    counts: dict[Digest, int | None] = {}
    for vertex in order:
        match vertex.op:
            case ScratchSource():
                stack: Deltas | None = ()
            case ImageSource(digest=manifest) | OciLayoutSource(digest=manifest):
                stack = of_image(manifest)
            case _:
                stack = known(vertex)
        if stack is not None and not is_link(stack):
            by_vertex.setdefault(vertex.digest, stack)
        counts[vertex.digest] = _count(vertex, counts, by_vertex)
    for vertex in reversed(order):
        if vertex.digest not in by_vertex:
            continue
        stack = by_vertex[vertex.digest]
        if isinstance(vertex.op, MergeOp):
            at = 0
            for source in vertex.inputs:
                count = counts[source.digest]
                if count is None:
                    break
                by_vertex.setdefault(source.digest, stack[at : at + count])
                at += count
        else:
            base = _base(vertex)
            if base is not None and stack:
                by_vertex.setdefault(base.digest, stack[:-1])
    return by_vertex


def by_step(
    by_vertex: Mapping[Digest, Deltas], outputs: Mapping[Digest, str], describe: Describe
) -> dict[str, list[list[dict[str, Any]]]]:
    """Return the chain of layers of each step; without those that are no blobs yet.

    Args:
        outputs: which output of which step a vertex is, as ``step0:0``.
    """
    layers: dict[str, list[list[dict[str, Any]]]] = {}
    for digest, output in outputs.items():
        chain = describe(by_vertex[digest]) if by_vertex.get(digest) else None
        if chain:
            layers[output] = [chain]
    return dict(sorted(layers.items()))


def _base(vertex: Vertex) -> Vertex | None:
    """The tree that the vertex's delta lies on."""
    match vertex.op:
        case FileOp():
            return vertex.inputs[0]
        case ExecOp(mounts=mounts):
            kept = [mount for mount in mounts if mount.output]
            kept = kept or [mount for mount in mounts if mount.target == "/"]
            if kept and kept[0].input is not None and kept[0].selector == "/":
                return vertex.inputs[kept[0].input]
        case _:
            pass
    return None


def _count(
    vertex: Vertex, counts: Mapping[Digest, int | None], by_vertex: Mapping[Digest, Deltas]
) -> int | None:
    stack = by_vertex.get(vertex.digest)
    if stack is not None:
        return len(stack)
    if isinstance(vertex.op, MergeOp):
        parts = [counts[source.digest] for source in vertex.inputs]
        return None if None in parts else sum(part for part in parts if part is not None)
    base = _base(vertex)
    if base is None:
        return None
    below = counts[base.digest]
    return None if below is None else below + 1
