"""Reports are written and read without loss, and what is broken is refused or read as nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.explain.difference import Difference
from pybuild.explain.report import (
    BuildReport,
    CacheMountOrigin,
    Miss,
    Reason,
    Status,
    StepReport,
    from_json,
    to_json,
)

DIFFERENCE = Difference(field="env.A", was="1", now=None, path="p", note="n")
REPORT = BuildReport(
    id="abc",
    at=12.5,
    seconds=3.0,
    context="/src",
    dockerfile="Dockerfile",
    target="t",
    error="it failed",
    steps=(
        StepReport(number=1, name="one", status=Status.CACHED),
        StepReport(
            number=2,
            name="two",
            status=Status.RAN,
            seconds=1.5,
            cpu_seconds=0.5,
            peak_memory_bytes=7,
            key="sha256:1",
            miss=Miss(
                reason=Reason.CHANGED,
                nearest="old",
                place="cache:1",
                differences=(DIFFERENCE, Difference(field="command", now="")),
                more=3,
            ),
            mounts=(CacheMountOrigin(id="go", origin="new and empty"),),
        ),
    ),
)


def written(report: BuildReport) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(to_json(report)))
    return value


def test_a_report_is_read_as_it_was_written() -> None:
    assert written(REPORT)["format"] == 1
    assert from_json(written(REPORT)) == REPORT


@pytest.mark.parametrize("value", [None, [], {}, {"format": 2}, {"format": "1"}])
def test_another_format_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a history of format"):
        from_json(value)


def test_a_status_or_a_reason_that_there_is_not_is_refused() -> None:
    value = written(REPORT)
    value["steps"][0]["status"] = "perhaps"
    with pytest.raises(ValueError, match="perhaps"):
        from_json(value)
    value = written(REPORT)
    value["steps"][1]["miss"]["reason"] = "mood"
    with pytest.raises(ValueError, match="mood"):
        from_json(value)


def test_what_is_missing_is_read_as_nothing() -> None:
    report = from_json({"format": 1, "id": "x", "steps": [{"status": "ran"}]})
    assert report == BuildReport(
        id="x",
        at=0.0,
        seconds=0.0,
        context="",
        dockerfile="",
        steps=(StepReport(number=0, name="", status=Status.RAN),),
    )


def test_misses_are_the_steps_that_had_to_run_and_the_first_difference_is_the_cause() -> None:
    assert [step.name for step in REPORT.misses] == ["two"]
    assert REPORT.steps[1].miss is not None
    assert REPORT.steps[1].miss.cause == DIFFERENCE
    assert Miss(reason=Reason.NEW).cause is None


def test_a_history_keeps_twenty_differences_and_counts_the_rest() -> None:
    def of(count: int, more: int = 0) -> Miss:
        differences = tuple(Difference(field=f"f{n}") for n in range(count))
        return Miss(reason=Reason.CHANGED, differences=differences, more=more)

    assert of(20).cut() == of(20)
    cut = of(23, more=2).cut()
    assert cut == of(20, more=5)
    assert cut.cut() == cut
