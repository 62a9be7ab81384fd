"""The steps of a build as they went: what CI systems are told of, once it is over."""

from __future__ import annotations

from enum import StrEnum

from pybuild.model.dataclass import dataclass
from pybuild.model.events import (
    BuildWarning,
    Event,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexStarted,
)


class StepEnd(StrEnum):
    """How a step ended."""

    CACHED = "cached"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_REACHED = "not reached"


@dataclass(slots=True)
class StepTimes:
    """One step; times are seconds since the epoch, 0.0 for none."""

    name: str
    end: StepEnd = StepEnd.NOT_REACHED
    started: float = 0.0
    ended: float = 0.0
    error: str = ""

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.started) if self.started else 0.0


class StepTimeline:
    """Takes the events of a build; *warnings* are those that it gave."""

    def __init__(self) -> None:
        self._steps: dict[str, StepTimes] = {}
        self.warnings: list[BuildWarning] = []

    def watch(self, event: Event) -> None:
        if isinstance(event, BuildWarning):
            self.warnings.append(event)
            return
        if isinstance(event, VertexAdded):
            self._steps.setdefault(event.vertex, StepTimes(event.name)).name = event.name
            return
        step = self._steps.get(event.vertex)
        if step is None:
            return
        match event:
            case VertexStarted(time=time):
                step.started, step.end = time, StepEnd.NOT_REACHED
            case VertexCached(time=time):
                step.ended, step.end = time, StepEnd.CACHED
            case VertexCompleted(time=time):
                step.ended = time
                if step.end is not StepEnd.CACHED:
                    step.end = StepEnd.DONE
            case VertexFailed(time=time, error=error, cancelled=cancelled):
                step.ended, step.error = time, error
                step.end = StepEnd.CANCELLED if cancelled else StepEnd.FAILED
            case _:
                pass

    @property
    def steps(self) -> list[StepTimes]:
        """The steps in the order in which they were said, and what is exported; not what is around them."""
        shown = (step for step in self._steps.values() if step.name)
        return [step for step in shown if "[internal]" not in step.name]

    @property
    def cached(self) -> tuple[int, int]:
        """The number of steps of the Dockerfile that were cached, and of all that had their turn."""
        ends = [step.end for step in self.steps if "[" in step.name]
        reached = [end for end in ends if end is not StepEnd.NOT_REACHED]
        return reached.count(StepEnd.CACHED), len(reached)
