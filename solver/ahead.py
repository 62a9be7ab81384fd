"""How long what lies ahead of each vertex takes: who starts first where not everybody can.

By hand: the order that `walk` gives makes a longest path one look at each edge, while a library of
graphs takes longer to load than most of what is put in order takes to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pybuild.model.digest import Digest
from pybuild.model.ops import (
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    OciLayoutSource,
    Vertex,
    walk,
)


def critical_seconds(
    targets: Sequence[Vertex], seconds: Callable[[Digest], float | None]
) -> dict[Digest, float]:
    """Return for each vertex the longest time from its start to the end of the build.

    That is the longest path to a target, each vertex weighing what it took last time, or a guess
    by its kind. Starting the largest first keeps the critical path moving.
    """
    ahead: dict[Digest, float] = {}
    after: dict[Digest, float] = {}  # of the user that takes longest
    for vertex in reversed(list(walk(*targets))):
        took = seconds(vertex.digest)
        if took is None:
            took = guess_seconds(vertex)
        total = ahead[vertex.digest] = took + after.get(vertex.digest, 0.0)
        for source in vertex.inputs:
            after[source.digest] = max(after.get(source.digest, 0.0), total)
    return ahead


def guess_seconds(vertex: Vertex) -> float:
    """Return how long a vertex of this kind tends to take; only the order of sizes matters."""
    match vertex.op:
        case ExecOp():
            return 10.0
        case ImageSource() | GitSource() | HttpSource() | OciLayoutSource():
            return 3.0
        case FileOp():
            return 0.2
        case _:
            return 0.01
