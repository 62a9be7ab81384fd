"""Traces of builds as their viewers read them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pybuild.builds.buildrecord import BuildStatus
from pybuild.history.tracefile import chrome_trace, lanes, otlp_trace
from pybuild.model.timeline import StepState, TimedStep, timeline_of
from tests.history.pastbuilds import AT, RECORD, events, failing


def test_chrome_has_an_event_a_step_in_microseconds() -> None:
    document = chrome_trace(RECORD, timeline_of(events(), AT))
    head, *steps = document["traceEvents"]
    assert head["args"] == {"name": "build 0d0d0d0d"}
    slow = next(one for one in steps if one["name"] == "[slow 1/1] RUN make")
    assert (slow["ph"], slow["ts"], slow["dur"]) == ("X", 3_000_000, 6_000_000)
    assert slow["args"]["inputs"] == [1]
    assert slow["args"]["critical"] is True
    assert json.loads(json.dumps(document)) == document


def test_chrome_says_why_a_step_failed_and_leaves_out_what_never_began() -> None:
    document = chrome_trace(RECORD, timeline_of(failing(), AT))
    steps = {one["args"]["number"]: one for one in document["traceEvents"][1:]}
    assert sorted(steps) == [1, 2, 3]
    assert steps[3]["cat"] == "failed"
    assert steps[3]["args"]["error"] == "exit code: 1"
    assert steps[2]["tid"] != steps[3]["tid"]


SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20)


@given(SPANS)
def test_steps_share_a_lane_only_one_after_the_other_and_no_lane_is_spare(
    spans: list[tuple[int, int]],
) -> None:
    steps = [
        TimedStep(number=n, name="s", state=StepState.RAN, began=begin, ended=begin + length)
        for n, (begin, length) in enumerate(spans, 1)
    ]
    rows = lanes(steps)
    assert sorted(step.number for row in rows for step in row) == list(range(1, len(steps) + 1))
    for row in rows:
        assert all((a.ended or 0) <= (b.began or 0) for a, b in pairwise(row))
    most = max(
        (
            sum((a.began or 0) <= moment + 0.5 < (a.ended or 0) for a in steps)
            for moment in range(41)
        ),
        default=0,
    )
    instants = any(step.began == step.ended for step in steps)
    assert len(rows) == most or (instants and len(rows) >= most)


def test_a_lane_is_taken_as_long_as_its_step_has_no_end() -> None:
    steps = [
        TimedStep(number=1, name="a", began=0.0),
        TimedStep(number=2, name="b", began=5.0, ended=6.0),
        TimedStep(number=3, name="c"),
    ]
    assert [[step.number for step in row] for row in lanes(steps)] == [[1], [2]]


def test_otlp_has_a_root_and_its_children_with_links_to_what_they_read() -> None:
    document = otlp_trace(RECORD, timeline_of(events(), AT))
    (resource,) = document["resourceSpans"]
    root, *children = resource["scopeSpans"][0]["spans"]
    assert (root["name"], root["startTimeUnixNano"]) == ("app", str(10**18))
    assert root["endTimeUnixNano"] == str(10**18 + 12 * 10**9)
    assert {one["parentSpanId"] for one in children} == {root["spanId"]}
    assert {one["traceId"] for one in (root, *children)} == {root["traceId"]}
    assert len({one["spanId"] for one in (root, *children)}) == 6
    assert all(len(one["traceId"]) == 32 and len(one["spanId"]) == 16 for one in (root, *children))
    last = next(one for one in children if one["name"].startswith("[stage-2"))
    ids = {one["name"]: one["spanId"] for one in children}
    assert [link["spanId"] for link in last["links"]] == [
        ids["[fast 1/1] RUN lint"],
        ids["[slow 1/1] RUN make"],
    ]
    assert root["status"] == {"code": 1}
    assert {"key": "pybuild.step.critical", "value": {"boolValue": True}} in last["attributes"]
    assert {"key": "pybuild.step.number", "value": {"intValue": "4"}} in last["attributes"]


def test_otlp_is_the_same_each_time_and_tells_errors() -> None:
    broken = replace(RECORD, status=BuildStatus.ERROR, error="make failed", seconds=None)
    timeline = timeline_of(failing(), AT)
    document = otlp_trace(broken, timeline)
    assert document == otlp_trace(broken, timeline)
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert spans[0]["status"] == {"code": 2, "message": "make failed"}
    assert spans[0]["endTimeUnixNano"] == str(10**18 + 4 * 10**9)
    failed = [one for one in spans[1:] if one["status"]["code"] == 2]
    assert {one["status"]["message"] for one in failed} == {"exit code: 1", "canceled"}
