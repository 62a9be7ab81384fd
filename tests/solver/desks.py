"""Desks of the state machine, stopped at a moment or asked again."""

from __future__ import annotations

from pybuild.model.ops import Vertex
from pybuild.solver.messages import Run
from tests.solver.builders import Desk
from tests.solver.fakes import FakeRunner


def names(desk: Desk) -> list[str]:
    return [name for name in desk.ran if name != "local"]


def again(desk: Desk, *targets: Vertex, **changes: str) -> Desk:
    """Build with the same store and a runner that makes other bytes."""
    runner = FakeRunner(files=dict(desk.runner.files), content=dict(desk.runner.content))
    second = Desk(desk.records, runner)
    second.solve(*targets)
    return second


def pending_run(desk: Desk, name: str) -> int:
    return next(
        t for t, i in desk.open.items() if isinstance(i, Run) and i.vertex.meta.name == name
    )


def until_running(desk: Desk, *wanted: str) -> None:
    """Work until the vertices have begun, answering anything but their runs."""
    while True:
        begun = {
            i.vertex.meta.name
            for t, i in desk.open.items()
            if isinstance(i, Run) and t in desk.begun
        }
        if begun >= set(wanted):
            return
        ticket = next(
            t
            for t, i in sorted(desk.open.items())
            if not (isinstance(i, Run) and t in desk.begun and i.vertex.meta.name in wanted)
        )
        desk.step(ticket)
