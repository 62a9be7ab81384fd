"""The definition as a directed graph, and how long what lies ahead of each vertex takes.

Only what needs an order of starting imports this: a build that runs nothing does not load
networkx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import networkx as nx

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

if TYPE_CHECKING:
    Graph = nx.DiGraph[Digest]


def load(targets: Sequence[Vertex]) -> Graph:
    """Return the graph of all that *targets* need; edges go from an input to its user.

    Nodes are vertex digests with the `Vertex` as attribute ``vertex``.
    """
    graph: Graph = nx.DiGraph()
    for vertex in walk(*targets):
        graph.add_node(vertex.digest, vertex=vertex)
        graph.add_edges_from((source.digest, vertex.digest) for source in vertex.inputs)
    return graph


def needed(graph: Graph, targets: Iterable[Vertex]) -> set[Digest]:
    """Return the digests of the targets and of everything below them."""
    digests: set[Digest] = set()
    for target in targets:
        if target.digest not in digests:
            digests.add(target.digest)
            digests |= nx.ancestors(graph, target.digest)  # pyright: ignore[reportUnknownMemberType]
    return digests


def critical_seconds(
    graph: Graph, seconds: Callable[[Digest], float | None]
) -> dict[Digest, float]:
    """Return for each vertex the longest time from its start to the end of the build.

    That is the longest path to a target, each vertex weighing what it took last time, or a guess
    by its kind. Starting the largest first keeps the critical path moving.
    """
    ahead: dict[Digest, float] = {}
    for digest in reversed(list(nx.topological_sort(graph))):
        took = seconds(digest)
        if took is None:
            took = guess_seconds(graph.nodes[digest]["vertex"])
        ahead[digest] = took + max((ahead[user] for user in graph.successors(digest)), default=0.0)
    return ahead


def guess_seconds(vertex: Vertex) -> float:
    """Return the usual seconds of a vertex of this kind; only the order of sizes matters."""
    match vertex.op:
        case ExecOp():
            return 10.0
        case ImageSource() | GitSource() | HttpSource() | OciLayoutSource():
            return 3.0
        case FileOp():
            return 0.2
        case _:
            return 0.01
