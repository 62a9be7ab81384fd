"""Two builds beside each other."""

from __future__ import annotations

from pybuild.history.comparison import compare
from pybuild.model.timeline import StepState, TimedStep, Timeline, timeline_of
from tests.history.pastbuilds import AT, events, failing


def test_the_step_that_changed_most_comes_first() -> None:
    changes = compare(timeline_of(events(6.0), AT), timeline_of(events(2.0), AT))
    assert [(change.name, round(change.seconds, 3)) for change in changes] == [
        ("[slow] RUN make", -4.0),
        ("[fast] RUN lint", 0.0),
        ("[stage-2] COPY --from=slow / /", 0.0),
        ("exporting to image", 0.0),
    ]


def test_steps_of_one_build_alone_stand_beside_nothing() -> None:
    changes = compare(timeline_of(events(), AT), timeline_of(failing(), AT))
    alone = {change.name: change for change in changes if change.after is None}
    assert set(alone) == {"[fast] RUN lint", "[stage-2] COPY --from=slow / /", "exporting to image"}
    assert alone["exporting to image"].seconds == -1.0


def _timeline(*names: str) -> Timeline:
    steps = tuple(
        TimedStep(number=n, name=name, state=StepState.RAN, began=0.0, ended=float(n))
        for n, name in enumerate(names, 1)
    )
    return Timeline(steps=steps, seconds=9.0)


def test_a_step_is_the_same_wherever_it_stands_in_its_stage() -> None:
    before = _timeline("[1/2] RUN a", "[linux/arm64 b 2/2] RUN b")
    after = _timeline("[1/3] RUN new", "[2/3] RUN a", "[linux/arm64 b 3/3] RUN b")
    changes = {change.name: change for change in compare(before, after)}
    assert changes["RUN a"].seconds == 1.0
    assert changes["[linux/arm64 b] RUN b"].seconds == 1.0
    assert changes["RUN new"].before is None


def test_steps_of_one_name_are_paired_in_their_order() -> None:
    changes = compare(_timeline("RUN a", "RUN a"), _timeline("RUN a", "RUN a", "RUN a"))
    assert sorted(change.seconds for change in changes) == [0.0, 0.0, 3.0]
