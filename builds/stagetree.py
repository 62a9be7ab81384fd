"""The file tree of a stage, or of a stage up to one of its steps, made without an image of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pybuild.builds.delivery import Solves
from pybuild.builds.prepare import prepare, sources_shown
from pybuild.builds.request import BuildRequest
from pybuild.engine.engine import Engine
from pybuild.frontend.lowering.interface import NeedsFrontend
from pybuild.frontend.syntax.ast import Dockerfile, Instruction, Run, Stage, Transfer, Workdir
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import Emit
from pybuild.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTree:
    """A tree in the store, and the config that an image of it would have."""

    snapshot: Snapshot
    config: Mapping[str, Any]


@asynccontextmanager
async def stage_tree(
    engine: Engine, request: BuildRequest, step: int, emit: Emit
) -> AsyncGenerator[StageTree]:
    """Make the tree of the stage that *request* targets, and keep it for the block.

    Args:
        step: stop behind that one, counted as the progress of a build counts them; 0: behind the last.

    Raises:
        UserError: a step failed, or there is no such stage or step; EnvironmentFault.
    """
    try:
        prepared = await prepare(engine, request, emit)
        if step:
            text = cut(prepared.inputs.dockerfile, prepared.dockerfile, request.target, step)
            await engine.release(prepared.sources)
            request = replace(request, dockerfile_text=text, target="")
            prepared = await prepare(engine, request, emit)
    except NeedsFrontend as error:
        raise UserError(
            f"a stage of a Dockerfile that a frontend of its own reads cannot be run: {error}",
            hints=["build an image with --target, and run that"],
        ) from error
    runner = prepared.sources.runner(prepared.inputs.trees)
    try:
        with sources_shown(prepared.inputs.filename, prepared.dockerfile.lines):
            async with runner:
                (lowered,) = prepared.lowered
                solution = await Solves(engine).solve([lowered.result], runner, emit)
                yield StageTree(
                    snapshot=_snapshot(solution.of(lowered.result).result), config=lowered.config
                )
    finally:
        await engine.release(prepared.sources)


def _snapshot(result: object) -> Snapshot:
    assert isinstance(result, Snapshot)
    return result


def cut(text: bytes, dockerfile: Dockerfile, target: str, step: int) -> bytes:
    """Return a Dockerfile's text up to a step of a stage. Pure.

    Raises:
        UsageError: the stage has no such step.
    """
    stage = _stage(dockerfile, target)
    # A base that is no image takes no number.
    above = {one.start.name.lower() for one in dockerfile.stages[: stage.index]} - {""}
    own = stage.start.base.lower() not in ("scratch", *above)
    steps: list[Instruction] = [stage.start] if own else []
    steps += [one for one in stage.body if isinstance(one, (Run, Transfer, Workdir))]
    if not 0 < step <= len(steps):
        raise UsageError(
            f"--from-step {step}: the stage has {len(steps)} steps",
            hints=["they are counted as a build shows them: [2/5]"],
        )
    last = steps[step - 1]
    if step == len(steps) and stage.body:
        last = stage.body[-1]  # with the settings that follow the last one
    lines = text.splitlines(keepends=True)
    return b"".join(lines[: last.span.last_line])


def _stage(dockerfile: Dockerfile, target: str) -> Stage:
    """Return the stage of that name or number; the last one for none. The build knows that it is there."""
    if not target:
        return dockerfile.stages[-1]
    named = [one for one in dockerfile.stages if one.start.name.lower() == target.lower()]
    return named[-1] if named else dockerfile.stages[int(target)]
