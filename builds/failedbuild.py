"""A build that failed at a step, as those have it who look into the step while its trees are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pybuild.executor.failedsteps import FailedStep
from pybuild.model.dataclass import dataclass
from pybuild.model.events import Event

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.executor.runner import BuildRunner
    from pybuild.explain.report import BuildReport


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBuild:
    """One of them; the trees are there until the function that it is given to has ended.

    Attributes:
        step: the one with a process that failed first.
        error: of the build, with its causes and hints.
        report: the reasons of its steps; None where they could not be found.
        events: yields those of the build so far, secrets left out.
    """

    engine: Engine
    runner: BuildRunner
    step: FailedStep
    error: Exception
    report: BuildReport | None
    events: Callable[[], Iterator[Event]]
