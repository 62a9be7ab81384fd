"""Places in a Dockerfile at which a build stops, for somebody to look into the tree before or after a step.

A step with a break point runs, though its result is stored. Other steps go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.builds.maxage import with_fresh
from pybuild.engine.host import native_platform
from pybuild.executor.failedsteps import FailedStep
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, FileOp, Mount, Vertex, walk
from pybuild.model.snapshot import Result, Snapshot

if TYPE_CHECKING:
    from pybuild.executor.runner import BuildRunner

_AFTER = "after:"


@dataclass(frozen=True, slots=True)
class BreakPoint:
    """One of them.

    Attributes:
        line: of the Dockerfile; 0 for each step of *stage*, in lower case.
        after: the step has run.
    """

    line: int
    stage: str
    after: bool

    @classmethod
    def parse(cls, text: str) -> BreakPoint:
        """Read ``[after:]LINE`` or ``[after:]STAGE``."""
        place = text.removeprefix(_AFTER)
        is_line = place.isdecimal() and len(place) < 10
        number = int(place) if is_line else 0
        return cls(number, "" if is_line else place.lower(), text != place)

    def __str__(self) -> str:
        return (_AFTER if self.after else "") + (self.stage or str(self.line))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedStep:
    """A step at which a build stands.

    Attributes:
        op, inputs: of a process in the tree as it is at that moment.
        has_run: it stands after the step.
    """

    runner: BuildRunner
    vertex: Vertex
    op: ExecOp
    inputs: Sequence[Result]
    has_run: bool


OnStop = Callable[[StoppedStep], Awaitable[bool]]
"""Lets the build stand until it returns, whether to stand at the next step, too; raises to end it."""


class BreakPoints:
    """The break points of one build.

    Args:
        on_stop: is called for one step at a time of those that run beside each other.
    """

    def __init__(self, points: Sequence[BreakPoint], on_stop: OnStop) -> None:
        self._points = points
        self._on_stop = on_stop
        self._stops: dict[Digest, set[bool]] = {}
        self._stops_next = False
        self._runner: BuildRunner | None = None

    def enter(
        self, targets: Sequence[Vertex], dockerfile: Dockerfile, runner: BuildRunner
    ) -> list[Vertex]:
        """Stop the steps that *runner* runs; return *targets* with those to run again that have a break point.

        Raises:
            UserError: no step is there.
        """
        self._stops, self._runner = {}, runner
        steps = [
            vertex
            for vertex in walk(*targets)
            if isinstance(vertex.op, ExecOp | FileOp) and vertex.meta.spans
        ]
        for point in self._points:
            here = [vertex for vertex in steps if _is_at(vertex, point, dockerfile)]
            if not here:
                raise UserError(f"--break {point}: no step there", hints=_nearest(point, steps))
            for vertex in here:
                self._stops.setdefault(vertex.digest, set()).add(point.after)
        runner.stops = self
        return with_fresh(targets, set(self._stops))

    async def before(self, vertex: Vertex, inputs: Sequence[Result]) -> None:
        """Stop before a step, if there is a break point."""
        if self._stops_next or False in self._stops.get(vertex.digest, ()):
            await self._stop(vertex, inputs, None)

    async def after(self, vertex: Vertex, inputs: Sequence[Result], result: Result) -> None:
        """Stop after a step, if there is a break point."""
        if True in self._stops.get(vertex.digest, ()):
            await self._stop(vertex, inputs, result)

    async def _stop(self, vertex: Vertex, inputs: Sequence[Result], result: Result | None) -> None:
        assert self._runner is not None
        if isinstance(vertex.op, ExecOp):
            number = next((n for n, one in enumerate(vertex.op.mounts) if one.target == "/"), -1)
            trees = {number: result} if isinstance(result, Snapshot) else {}
            op, now = FailedStep(vertex, inputs, trees).as_left()
        elif isinstance(vertex.op, FileOp):
            op = ExecOp(
                args=(),
                env=(),
                cwd="/",
                mounts=(Mount(target="/", input=0),),
                platform=native_platform(),
            )
            now = [*inputs[:1]] if result is None else [result]
        else:
            return  # no instruction of a Dockerfile
        self._stops_next = await self._on_stop(
            StoppedStep(
                runner=self._runner, vertex=vertex, op=op, inputs=now, has_run=result is not None
            )
        )


def _is_at(vertex: Vertex, point: BreakPoint, dockerfile: Dockerfile) -> bool:
    lines = [span for span in vertex.meta.spans if span.first_line]
    if not point.stage:
        return any(span.first_line <= point.line <= span.last_line for span in lines)
    for stage in dockerfile.stages:
        if stage.start.name == point.stage:
            own = {at.span.first_line for at in stage.body}
            return any(span.first_line in own for span in lines)
    return False


def _nearest(point: BreakPoint, steps: Sequence[Vertex]) -> list[str]:
    lines = sorted({span.first_line for vertex in steps for span in vertex.meta.spans})
    behind = [line for line in lines if line > point.line]
    if point.stage or not behind:
        return [f"steps of this build are on the lines {', '.join(map(str, lines)) or '(none)'}"]
    return [f"the next step of this build is on line {behind[0]}"]
