"""Trees that a frontend promises, made of nothing."""

from __future__ import annotations

from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.model.ops import (
    FileOp,
    Mkfile,
    ScratchSource,
    Vertex,
)
from pybuild.model.snapshot import Snapshot

SCRATCH = Vertex(ScratchSource())
MADE = Vertex(FileOp(actions=(Mkfile(path="/f", data=b""),)), (SCRATCH,))


async def solve(vertex: Vertex) -> Snapshot:
    return Snapshot((vertex.digest,))


def tree() -> LazyTree:
    return LazyTree(MADE, solve)
