"""Stored results that are older than they may be: their steps run again, as with ``--no-cache``.

Which age a step's result may have says its `VertexMeta`, as the frontend has read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pybuild.engine.engine import Engine
from pybuild.engine.solve import solve
from pybuild.executor.runner import BuildRunner
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError, unwrap
from pybuild.model.events import Event
from pybuild.model.ops import ExecOp, FileOp, Vertex, walk
from pybuild.solver.job import every


class _WouldRun(UserError):
    """A step has no stored result: it has none that is too old."""


async def without_old(
    engine: Engine, targets: Sequence[Vertex], runner: BuildRunner, *, now: float
) -> Sequence[Vertex]:
    """Return *targets* with those steps to run again whose stored results are older than they may be.

    They are looked up, and nothing runs for that: a step without a result runs in any case.

    Args:
        now: when the build began, in seconds; what it makes itself is younger.
    """
    ages: dict[Digest, float] = {}
    for vertex in every(tuple(targets)):
        if vertex.meta.max_age_s is not None and isinstance(vertex.op, ExecOp | FileOp):
            age = ages.get(vertex.digest, vertex.meta.max_age_s)
            ages[vertex.digest] = min(age, vertex.meta.max_age_s)
    if not ages:
        return targets
    aged = [vertex for vertex in walk(*targets) if vertex.digest in ages]
    made = await _times(engine, aged, runner)
    if made is None:  # some step has no result: ask for each alone
        alone = [await _times(engine, [vertex], runner) for vertex in aged]
        made = {digest: created for one in alone if one for digest, created in one.items()}
    old = {digest for digest, created in made.items() if now - created > ages[digest]}
    return with_fresh(targets, old) if old else targets


async def _times(
    engine: Engine, vertices: Sequence[Vertex], runner: BuildRunner
) -> dict[Digest, float] | None:
    """Return when the stored results of *vertices* were made; None if one of them has none."""

    def refuse(step: Vertex, _run: object) -> None:
        if isinstance(step.op, ExecOp | FileOp):  # others are read, to know what a step is made of
            raise _WouldRun("not stored")

    try:
        solution = await solve(engine, vertices, runner, _quiet, whole=False, missed=refuse)
    except (PybuildError, ExceptionGroup) as error:
        if isinstance(unwrap(error), _WouldRun):
            return None
        raise
    keys = {vertex.digest: solution.key(vertex) for vertex in vertices}
    records = {digest: engine.results.load(key) for digest, key in keys.items() if key is not None}
    return {digest: record.created for digest, record in records.items() if record is not None}


def with_fresh(targets: Sequence[Vertex], steps: set[Digest]) -> list[Vertex]:
    """Return *targets* with these *steps* to run again, whether or not a result of them is stored."""
    made: dict[Digest, Vertex] = {}
    for vertex in walk(*targets):
        inputs = tuple(made[source.digest] for source in vertex.inputs)
        meta = replace(vertex.meta, ignore_cache=True) if vertex.digest in steps else vertex.meta
        made[vertex.digest] = Vertex(vertex.op, inputs, meta)
    return [made[target.digest] for target in targets]


def _quiet(_event: Event) -> None:
    """Drop an event: the build itself tells of its steps."""
