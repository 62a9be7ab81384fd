"""Two builds of one thing beside each other: which steps took longer, and which were cached in one alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pybuild.model.dataclass import dataclass
from pybuild.model.timeline import StepState, TimedStep, Timeline

_PLACE = re.compile(r"^\[(?:(?P<stage>.*) )?\d+/\d+\] ")
_IN_COUNT = frozenset((StepState.RAN, StepState.FAILED, StepState.CACHED))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChange:
    """One step in both builds, or in one of them (the other is None)."""

    name: str
    before: TimedStep | None
    after: TimedStep | None

    @property
    def seconds(self) -> float:
        """The time that the later build took more for it."""
        return _seconds(self.after) - _seconds(self.before)


def compare(before: Timeline, after: Timeline) -> list[StepChange]:
    """Return the steps of two builds, the one whose time changed most first.

    Steps are the same where their names are, but for their place in a stage: an instruction that
    came between moves those after it. Steps without an instruction are left out.
    """
    olds = _by_name(before)
    changes = [
        StepChange(name=name, before=olds.pop((name, copy), None), after=step)
        for (name, copy), step in _by_name(after).items()
    ]
    changes += [StepChange(name=name, before=step, after=None) for (name, _), step in olds.items()]
    return sorted(changes, key=lambda change: -abs(change.seconds))


def _by_name(timeline: Timeline) -> dict[tuple[str, int], TimedStep]:
    """Return steps by their names, and the count of those before them with the same."""
    steps: dict[tuple[str, int], TimedStep] = {}
    for name, step in _named(timeline):
        copy = 0
        while (name, copy) in steps:
            copy += 1
        steps[name, copy] = step
    return steps


def _named(timeline: Timeline) -> Iterator[tuple[str, TimedStep]]:
    for step in timeline.steps:
        if step.state in _IN_COUNT and not step.is_internal:
            yield _PLACE.sub(_stage, step.name), step


def _stage(match: re.Match[str]) -> str:
    return f"[{match['stage']}] " if match["stage"] else ""


def _seconds(step: TimedStep | None) -> float:
    return 0.0 if step is None else step.seconds
