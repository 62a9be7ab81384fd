"""Reachability and the critical path."""

from __future__ import annotations

import pytest

from pybuild.solver import graph
from tests.solver.builders import copy, image, merge, run


def test_what_lies_ahead_is_the_longest_path() -> None:
    base = image()
    short, long = run("short", base), run("long", run("before", base))
    top = merge("top", short, long)
    seconds = {base.digest: 1.0, short.digest: 5.0, long.digest: 2.0, top.digest: 0.0}
    seconds[long.inputs[0].digest] = 4.0
    ahead = graph.critical_seconds(graph.load([top]), seconds.get)
    assert ahead[short.digest] == 5.0
    assert ahead[long.inputs[0].digest] == 6.0
    assert ahead[base.digest] == 7.0


def test_without_a_record_the_kind_of_op_is_weighed() -> None:
    step, copied = run("step", image()), copy("copy", image(), image("other"))
    ahead = graph.critical_seconds(graph.load([step, copied]), lambda _: None)
    assert ahead[step.digest] > ahead[copied.digest]


def test_needed_is_the_target_and_all_below() -> None:
    base = image()
    a, b = run("a", base), run("b", base)
    loaded = graph.load([a, b])
    assert graph.needed(loaded, [a]) == {a.digest, base.digest}


@pytest.mark.slow
def test_each_of_ten_thousand_vertices_is_weighed_once() -> None:
    top = image()
    for number in range(10_000):
        top = run(f"s{number}", top)
    loaded = graph.load([top])
    weighed: list[str] = []

    def weigh(digest: str) -> float:
        weighed.append(digest)
        return 1.0

    assert graph.critical_seconds(loaded, weigh)[image().digest] == 10_001.0
    assert len(weighed) == len(set(weighed)) == 10_001
