"""The course of a build, out of its events."""

from __future__ import annotations

from pybuild.model.events import LogStream, VertexAdded, VertexLog, VertexStarted
from pybuild.model.timeline import StepState, timeline_of
from tests.history.pastbuilds import AT, BASE, SLOW, events, failing


def test_steps_have_their_times_in_the_build_and_all_that_moved() -> None:
    timeline = timeline_of(events(), AT)
    base, fast, slow, last, export = timeline.steps
    assert [step.number for step in timeline.steps] == [1, 2, 3, 4, 5]
    assert (base.began, base.ended, base.moved_bytes) == (1.0, 3.0, 1000)
    assert (fast.state, fast.began, fast.ended, fast.seconds) == (StepState.CACHED, 3.0, 3.0, 0.0)
    assert (slow.seconds, slow.output, slow.output_bytes) == (6.0, b"compiling\ndone\n", 15)
    assert (last.name, last.stage, last.inputs) == (
        "[stage-2 1/1] COPY --from=slow / /",
        "stage-2",
        (2, 3),
    )
    assert (export.state, export.ended) == (StepState.RAN, 11.0)
    assert timeline.seconds == 11.0
    assert [step.is_internal for step in timeline.steps] == [True, False, False, False, False]


def test_the_critical_path_goes_back_by_the_inputs_that_ended_last() -> None:
    assert timeline_of(events(), AT).critical == (1, 3, 4, 5)


def test_a_failed_build_has_its_victims_and_what_never_began() -> None:
    timeline = timeline_of(failing(), AT)
    states = [step.state for step in timeline.steps]
    assert states == [StepState.RAN, StepState.CANCELED, StepState.FAILED, StepState.WAITING]
    assert timeline.steps[2].error == "exit code: 1"
    assert timeline.critical == (1, 3)
    assert timeline.steps[3].seconds == 0.0


def test_a_build_that_goes_on_has_steps_without_an_end() -> None:
    timeline = timeline_of(failing()[:7], AT)
    assert timeline.steps[2].state is StepState.RUNNING
    assert (timeline.steps[2].ended, timeline.steps[2].seconds) == (None, 0.0)
    assert timeline.critical == (1,)


def test_a_build_of_nothing_has_no_path() -> None:
    timeline = timeline_of([], AT)
    assert (timeline.steps, timeline.critical, timeline.seconds) == ((), (), 0.0)


def test_of_a_long_output_the_end_is_kept_and_all_of_it_counted() -> None:
    said = [
        VertexLog(vertex=SLOW, time=AT, stream=LogStream.STDOUT, data=b"%05d\n" % n * 100)
        for n in range(200)
    ]
    step = timeline_of([VertexAdded(vertex=SLOW, name="n"), *said], AT).steps[0]
    assert step.output_bytes == 120_000
    assert len(step.output) == 64 << 10
    assert step.output.endswith(b"00199\n00199\n")


def test_a_clock_that_was_set_back_gives_no_negative_times() -> None:
    step = timeline_of(
        [VertexAdded(vertex=BASE, name="n"), VertexStarted(vertex=BASE, time=AT - 5)], AT
    ).steps[0]
    assert step.began == 0.0
