"""The critical path."""

from __future__ import annotations

import random
import time

import networkx as nx
import pytest

from pybuild.model.digest import Digest
from pybuild.model.ops import Vertex, walk
from pybuild.solver.ahead import critical_seconds
from tests.solver.builders import copy, image, merge, run

_END = Digest.of(b"the end")


def test_what_lies_ahead_is_the_longest_path() -> None:
    base = image()
    short, long = run("short", base), run("long", run("before", base))
    top = merge("top", short, long)
    seconds = {base.digest: 1.0, short.digest: 5.0, long.digest: 2.0, top.digest: 0.0}
    seconds[long.inputs[0].digest] = 4.0
    ahead = critical_seconds([top], seconds.get)
    assert ahead[short.digest] == 5.0
    assert ahead[long.inputs[0].digest] == 6.0
    assert ahead[base.digest] == 7.0


def test_without_a_record_the_kind_of_op_is_weighed() -> None:
    step, copied = run("step", image()), copy("copy", image(), image("other"))
    ahead = critical_seconds([step, copied], lambda _: None)
    assert ahead[step.digest] > ahead[copied.digest]


@pytest.mark.parametrize("seed", range(20))
def test_longest_paths_are_those_that_networkx_finds(seed: int) -> None:
    chance = random.Random(seed)
    made: list[Vertex] = [image()]
    for number in range(30):
        inputs = [chance.choice(made) for _ in range(chance.randint(1, 3))]
        made.append(merge(f"m{number}", *inputs))
    targets = [chance.choice(made) for _ in range(2)]
    took = {vertex.digest: float(chance.randint(0, 9)) for vertex in made}
    weighed = _graph(targets, took)
    expected = {
        digest: nx.dag_longest_path_length(
            weighed.subgraph({digest, *_descendants(weighed, digest)}), weight="weight"
        )
        for digest in weighed
        if digest != _END
    }
    assert critical_seconds(targets, took.get) == expected


def _descendants(graph: nx.DiGraph[Digest], digest: Digest) -> set[Digest]:
    return nx.descendants(graph, digest)  # pyright: ignore[reportUnknownMemberType]


def _graph(targets: list[Vertex], took: dict[Digest, float]) -> nx.DiGraph[Digest]:
    """Return what *targets* need, with a path from everything to one end that takes no time."""
    graph: nx.DiGraph[Digest] = nx.DiGraph()
    for vertex in walk(*targets):
        for source in vertex.inputs:
            graph.add_edge(source.digest, vertex.digest, weight=took[source.digest])
        if vertex in targets:
            graph.add_edge(vertex.digest, _END, weight=took[vertex.digest])
    return graph


@pytest.mark.slow
def test_ten_thousand_vertices_take_no_time() -> None:
    top = image()
    for number in range(10_000):
        top = run(f"s{number}", top)
    began = time.process_time()
    ahead = critical_seconds([top], lambda _: 1.0)
    assert ahead[image().digest] == 10_001.0
    assert time.process_time() - began < 2, "seconds of processor time, to catch a quadratic one"
