"""Results that are too old: an option, or a comment above an instruction, says for how long one may be used.

``# pybuild: max-age=7d`` above a RUN, COPY or ADD is about that step, above a FROM about all steps of its
stage; ``--max-age`` about all others. A step whose stored result is older runs again, and what is made from
it, as with ``--no-cache``. Other builders read a comment, and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pybuild.engine.engine import Engine
from pybuild.engine.solve import solve
from pybuild.executor.runner import BuildRunner
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.frontend.syntax.stepnotes import MAX_AGE, notes_above
from pybuild.model.amounts import parse_duration
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UsageError, UserError, unwrap
from pybuild.model.events import Event
from pybuild.model.ops import ExecOp, FileOp, Vertex, walk
from pybuild.model.span import Span


class _WouldRun(UserError):
    """A step has no stored result: it has none that is too old."""


def max_ages(
    dockerfile: Dockerfile, targets: Sequence[Vertex], given: Mapping[str, float]
) -> dict[Digest, float]:
    """Return for how many seconds the results of steps may be used, of those about which something says so.

    Args:
        given: as `BuildRequest.max_ages` has them; a comment counts more.

    Raises:
        UserError: a comment says something else, or there is no stage of a name.
    """
    stages = {stage.start.name for stage in dockerfile.stages}
    if unknown := sorted(set(given) - stages - {""}):
        named = ", ".join(sorted(stages - {""})) or "none has a name"
        raise UserError(f'--max-age: no stage "{unknown[0]}"', hints=[f"stages: {named}"])
    by_stage: dict[int, float] = {}
    for stage in dockerfile.stages:
        age = _age_above(dockerfile, stage.start.span)
        if age is None:
            age = given.get(stage.start.name, given.get(""))
        if age is not None:
            by_stage[stage.start.span.first_line] = age
    starts = sorted(stage.start.span.first_line for stage in dockerfile.stages)
    ages: dict[Digest, float] = {}
    for vertex in walk(*targets):
        span = next(iter(vertex.meta.spans), None)
        if span is None or not isinstance(vertex.op, ExecOp | FileOp):
            continue
        begins = max((start for start in starts if start <= span.first_line), default=0)
        age = _age_above(dockerfile, span)
        age = by_stage.get(begins) if age is None else age
        if age is not None:
            ages[vertex.digest] = age
    return ages


def _age_above(dockerfile: Dockerfile, span: Span) -> float | None:
    values = notes_above(dockerfile.lines, span.first_line).get(MAX_AGE)
    if not values:
        return None
    try:
        return parse_duration(values[-1])
    except UsageError as error:
        message = f"# pybuild: {MAX_AGE}={values[-1]}: {error.message}"
        raise UserError(message, spans=[span]) from error


async def without_old(
    engine: Engine,
    targets: Sequence[Vertex],
    runner: BuildRunner,
    dockerfile: Dockerfile,
    given: Mapping[str, float],
) -> list[Vertex]:
    """Return *targets* with those steps to run again whose stored results are older than they may be.

    Each is looked up by itself, and nothing runs for that: a step without a result runs in any case.

    Raises:
        UserError: as of `max_ages`.
    """
    ages = max_ages(dockerfile, targets, given)
    old: set[Digest] = set()
    for vertex in walk(*targets):
        if vertex.digest in ages and await _is_old(engine, vertex, runner, ages[vertex.digest]):
            old.add(vertex.digest)
    return _marked(targets, old) if old else list(targets)


async def _is_old(engine: Engine, vertex: Vertex, runner: BuildRunner, age: float) -> bool:
    def refuse(step: Vertex, _run: object) -> None:
        if isinstance(step.op, ExecOp | FileOp):  # others are read, to know what a step is made of
            raise _WouldRun("not stored")

    try:
        solution = await solve(engine, [vertex], runner, _quiet, whole=False, missed=refuse)
    except (PybuildError, ExceptionGroup) as error:
        if isinstance(unwrap(error), _WouldRun):
            return False
        raise
    key = solution.key(vertex)
    record = None if key is None else engine.results.load(key)
    return record is not None and engine.clock.now() - record.created > age


def _marked(targets: Sequence[Vertex], old: set[Digest]) -> list[Vertex]:
    made: dict[Digest, Vertex] = {}
    for vertex in walk(*targets):
        inputs = tuple(made[source.digest] for source in vertex.inputs)
        meta = replace(vertex.meta, ignore_cache=True) if vertex.digest in old else vertex.meta
        made[vertex.digest] = Vertex(vertex.op, inputs, meta)
    return [made[target.digest] for target in targets]


def _quiet(_event: Event) -> None:
    """Drop an event: the build itself tells of its steps."""
