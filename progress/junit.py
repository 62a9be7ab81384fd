"""A build as a JUnit file: each step a test, as any CI system lists them."""

from __future__ import annotations

from collections.abc import Sequence
from time import gmtime, strftime

from pybuild.model.errors import PybuildError, StepError
from pybuild.model.printable import without_controls
from pybuild.model.timeline import StepState, TimedStep
from pybuild.progress.annotations import xml_text


def junit(name: str, steps: Sequence[TimedStep], error: PybuildError | None) -> str:
    """Return the document for the steps of a build that is called *name*.

    An error that is no step's is a test of its own, which failed.
    """
    shown = list(steps)
    if error is not None and not any(step.state is StepState.FAILED for step in shown):
        failure = TimedStep(number=0, name="build", state=StepState.FAILED, error=error.message)
        shown.append(failure)
    failed = sum(step.state is StepState.FAILED for step in shown)
    skipped = sum(step.state is StepState.CANCELED or not step.is_over for step in shown)
    started = min((step.began for step in shown if step.began is not None), default=0.0)
    ended = max((step.ended for step in shown if step.ended is not None), default=started)
    seconds = ended - started
    counts = f'tests="{len(shown)}" failures="{failed}" errors="0" skipped="{skipped}"'
    stamp = strftime("%Y-%m-%dT%H:%M:%S", gmtime(started))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="pybuild" {counts} time="{seconds:.3f}">',
        f'  <testsuite name="{_attribute(name)}" {counts} time="{seconds:.3f}" timestamp="{stamp}">',
    ]
    for step in shown:
        lines += _case(name, step, error)
    return "\n".join([*lines, "  </testsuite>", "</testsuites>"]) + "\n"


def _case(suite: str, step: TimedStep, error: PybuildError | None) -> list[str]:
    opened = (
        f'    <testcase classname="{_attribute(suite)}" name="{_attribute(step.name)}" '
        f'time="{step.seconds:.3f}"'
    )
    match step.state:
        case StepState.FAILED:
            is_it = isinstance(error, StepError) and error.step in (step.name, "")
            message = error.message if is_it and error is not None else step.error
            log = error.log if isinstance(error, StepError) and is_it else ""
            text = xml_text(without_controls(f"{message}\n{log}".strip()))
            inside = f'      <failure message="{_attribute(message)}">{text}</failure>'
        case StepState.CANCELED:
            inside = '      <skipped message="cancelled"/>'
        case StepState.WAITING | StepState.RUNNING:
            inside = '      <skipped message="not reached"/>'
        case StepState.CACHED:
            inside = "      <system-out>cached</system-out>"
        case StepState.RAN:
            return [opened + "/>"]
    return [opened + ">", inside, "    </testcase>"]


def _attribute(text: str) -> str:
    return xml_text(" ".join(without_controls(text).split()))
