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
    def is_internal(self) -> bool:
        """Whether no instruction stands for it."""
        return self.name.startswith(_INTERNAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The course of one build; *seconds* is its length, as far as its steps tell."""

    steps: tuple[TimedStep, ...]
    seconds: float

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
    """Return the course of a build.

    Args:
        at: when it began, in the time of its events.
    """
    reader = _Reader(at)
    for event in events:
        reader.take(event)
    return reader.timeline()


class _Reader:
    """Reads events in their order; those of steps that were never added are passed over."""

    def __init__(self, at: float) -> None:
        self._at = at
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
                pass
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
                return replace(step, state=StepState.CACHED, began=moment, ended=moment)
            case VertexCompleted(time=time):
                return replace(step, state=StepState.RAN, ended=self._since(time))
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
        return Timeline(steps=steps, seconds=self._last)

    def _since(self, time: float) -> float:
        moment = max(0.0, time - self._at)
        self._last = max(self._last, moment)
        return moment
