"""The course of a build in time, read out of its events: when each step ran, and which ones it waited for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.events import (
    BuildWarning,
    Event,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexProgress,
    VertexStarted,
)

_MOST_OUTPUT = 64 << 10
_INTERNAL = "[internal]"


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    CACHED = "cached"
    RAN = "ran"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedStep:
    """One step of a build; times are seconds since the build began.

    Attributes:
        number: as its progress counts, from 1.
        inputs: numbers of the steps that it reads.
        began, ended: None where it did not.
        output: the end of its output, and *output_bytes* the size of all of it.
        moved_bytes: those of its transfers.
    """

    number: int
    name: str
    stage: str = ""
    inputs: tuple[int, ...] = ()
    state: StepState = StepState.WAITING
    began: float | None = None
    ended: float | None = None
    error: str = ""
    output: bytes = b""
    output_bytes: int = 0
    moved_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Its time; 0 for one that did not run to an end."""
        if self.began is None or self.ended is None:
            return 0.0
        return max(0.0, self.ended - self.began)

    @property
    def is_over(self) -> bool:
        return self.state not in (StepState.WAITING, StepState.RUNNING)

    @property
    def is_internal(self) -> bool:
        """Whether no instruction stands for it."""
        return _INTERNAL in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The course of one build; *seconds* is its length, as far as its steps tell, and *warnings* its own."""

    steps: tuple[TimedStep, ...] = ()
    seconds: float = 0.0
    warnings: tuple[BuildWarning, ...] = ()

    @property
    def shown(self) -> list[TimedStep]:
        """The steps that people know: instructions, and what is exported."""
        return [step for step in self.steps if step.name and not step.is_internal]

    @property
    def cached(self) -> tuple[int, int]:
        """The number of instructions that were cached, and of all that came to an end."""
        ends = [step.state for step in self.shown if "[" in step.name and step.is_over]
        return ends.count(StepState.CACHED), len(ends)

    @property
    def critical(self) -> tuple[int, ...]:
        """The numbers of the steps on the critical path, the first one first.

        From the step that ended last it goes back to the input that ended last, and so on: none of
        them can be shortened without the build being shorter. A step without inputs, such as an
        export, is taken to have waited for the one that ended last before it began.
        """
        ended = [step for step in self.steps if step.ended is not None]
        path: list[int] = []
        step = max(ended, key=_end, default=None)
        while step is not None and step.number not in path:
            path.append(step.number)
            step = max(_before(step, ended), key=_end, default=None)
        return tuple(reversed(path))


def _end(step: TimedStep) -> tuple[float, int]:
    return (step.ended or 0.0, step.number)


def _before(step: TimedStep, ended: Sequence[TimedStep]) -> list[TimedStep]:
    """Return the steps that *step* waited for, if it waited."""
    inputs = [one for one in ended if one.number in step.inputs]
    if inputs or step.began is None:
        return inputs
    return [one for one in ended if one is not step and (one.ended or 0.0) <= step.began]


def timeline_of(events: Iterable[Event], at: float) -> Timeline:
    """Return the course of a build; see `TimelineReader`."""
    reader = TimelineReader(at)
    for event in events:
        reader.take(event)
    return reader.timeline()


class TimelineReader:
    """Reads events in their order; those of steps that were never added are passed over.

    Args:
        at: when the build began, in the time of its events; 0.0 leaves that time as it is.
    """

    def __init__(self, at: float = 0.0) -> None:
        self._at = at
        self._warnings: list[BuildWarning] = []
        self._steps: dict[Digest, TimedStep] = {}
        self._inputs: dict[Digest, tuple[Digest, ...]] = {}
        self._last = 0.0

    def take(self, event: Event) -> None:
        match event:
            case VertexAdded(vertex=vertex, name=name, inputs=inputs, stage=stage):
                if vertex not in self._steps:
                    step = TimedStep(number=len(self._steps) + 1, name=name, stage=stage)
                    self._steps[vertex], self._inputs[vertex] = step, inputs
            case BuildWarning():
                self._warnings.append(event)
            case _:
                if (known := self._steps.get(event.vertex)) is not None:
                    self._steps[event.vertex] = self._after(known, event)

    def _after(self, step: TimedStep, event: Event) -> TimedStep:
        """Return *step* as it is after *event*."""
        match event:
            case VertexStarted(time=time):
                return replace(step, state=StepState.RUNNING, began=self._since(time))
            case VertexCached(time=time):
                moment = self._since(time)
                began = moment if step.began is None else step.began
                return replace(step, state=StepState.CACHED, began=began, ended=moment)
            case VertexCompleted(time=time):
                # BuildKit's own server says of a cached step that it began and ended, too.
                is_cached = step.state is StepState.CACHED
                state = StepState.CACHED if is_cached else StepState.RAN
                return replace(step, state=state, ended=self._since(time))
            case VertexFailed(time=time, error=error, cancelled=cancelled):
                state = StepState.CANCELED if cancelled else StepState.FAILED
                return replace(step, state=state, ended=self._since(time), error=error)
            case VertexLog(data=data):
                size = step.output_bytes + len(data)
                return replace(step, output=(step.output + data)[-_MOST_OUTPUT:], output_bytes=size)
            case VertexProgress(current=current, unit="bytes", done=True):
                return replace(step, moved_bytes=step.moved_bytes + current)
            case _:
                return step

    def timeline(self) -> Timeline:
        numbers = {vertex: step.number for vertex, step in self._steps.items()}
        steps = tuple(
            replace(
                step, inputs=tuple(numbers[one] for one in self._inputs[vertex] if one in numbers)
            )
            for vertex, step in self._steps.items()
        )
        return Timeline(steps=steps, seconds=self._last, warnings=tuple(self._warnings))

    def _since(self, time: float) -> float:
        moment = max(0.0, time - self._at)
        self._last = max(self._last, moment)
        return moment
