"""Break points: how they are written, where they are, and when a build stands there."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from pybuild.builds.breakpoints import BreakPoint, BreakPoints, StoppedStep
from pybuild.executor.runner import BuildRunner, Stops
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, FileOp, walk
from pybuild.model.snapshot import Snapshot
from tests.frontend.lowering import build

TEXT = """\
FROM scratch AS lib
COPY a /
FROM scratch AS app
ENV A=b
COPY --from=lib /a /
RUN one \\
    two
"""


class FakeRunner:
    stops: Stops | None = None


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("7", BreakPoint(7, "", False)),
        ("after:7", BreakPoint(7, "", True)),
        ("App", BreakPoint(0, "app", False)),
        ("after:App", BreakPoint(0, "app", True)),
    ],
)
def test_forms(text: str, point: BreakPoint) -> None:
    assert BreakPoint.parse(text) == point
    assert str(point) == text.lower()


def stops_of(*places: str, steps: bool = False) -> tuple[list[str], list[str]]:
    """Return the places that a build stands at, and the steps that run again for it.

    Args:
        steps: whoever is asked wants to stop at the next step, too.
    """
    stopped: list[str] = []

    async def on_stop(one: StoppedStep) -> bool:
        name = one.vertex.meta.name.partition("] ")[2]
        trees = [tree.deltas for tree in one.inputs if isinstance(tree, Snapshot)]
        root = next(mount for mount in one.op.mounts if mount.target == "/")
        assert root.input is not None
        stopped.append(f"{'after' if one.has_run else 'before'} {name} {trees[root.input][0]}")
        return steps

    async def run() -> list[str]:
        runner = FakeRunner()
        breaks = BreakPoints([BreakPoint.parse(place) for place in places], on_stop)
        dockerfile = parse_dockerfile(TEXT.encode())
        lowered = build(TEXT).result
        targets = breaks.enter([lowered], dockerfile, cast(BuildRunner, runner))
        assert targets == [lowered]
        assert runner.stops is breaks
        for vertex in walk(*targets):
            inputs = [Snapshot(("base",)) for _ in vertex.inputs]
            await breaks.before(vertex, inputs)
            await breaks.after(vertex, inputs, Snapshot(("made",)))
        fresh = [vertex for vertex in walk(*targets) if vertex.meta.ignore_cache]
        assert all(isinstance(vertex.op, ExecOp | FileOp) for vertex in fresh)
        return [vertex.meta.name.partition("] ")[2] for vertex in fresh]

    return stopped, asyncio.run(run())


def test_a_line_is_that_of_the_whole_instruction() -> None:
    assert stops_of("7") == (["before RUN one     two base"], ["RUN one     two"])
    assert stops_of("6", "after:7") == (
        ["before RUN one     two base", "after RUN one     two made"],
        ["RUN one     two"],
    )


def test_a_stage_is_each_of_its_steps() -> None:
    stopped, fresh = stops_of("after:lib")
    assert stopped == ["after COPY a / made"]
    assert fresh == ["COPY a /"]


def test_from_step_to_step() -> None:
    stopped, fresh = stops_of("2", steps=True)
    assert [line.split()[1] for line in stopped] == ["COPY", "COPY", "RUN"]
    assert fresh == ["COPY a /"]


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("4", "the next step of this build is on line 5"),
        ("8", "steps of this build are on the lines 2, 5, 6"),
        ("nope", "steps of this build are on the lines 2, 5, 6"),
    ],
)
def test_places_without_a_step(place: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        stops_of(place)
    assert caught.value.message == f"--break {place}: no step there"
    assert caught.value.hints == (hint,)
