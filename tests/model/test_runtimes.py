"""The times of a run: what it waited for is not its own work."""

from __future__ import annotations

from itertools import count

from pybuild.model.events import RUN_TIMES, RunTimes, pulling


def test_pulls_at_the_same_time_count_once() -> None:
    said: list[bool] = []
    seconds = count()
    times = RunTimes(lambda: float(next(seconds)), said.append)
    token = RUN_TIMES.set(times)
    with pulling(), pulling():
        assert said == [True]
    with pulling():
        pass
    RUN_TIMES.reset(token)
    assert said == [True, False, True, False]
    assert times.pulled_s == 2.0
    assert (times.own_s(5.0), times.own_s(1.0)) == (3.0, 0.0)


def test_who_has_done_the_work_says_what_it_took() -> None:
    times = RunTimes(lambda: 0.0)
    times.ran_s = 0.25
    assert times.own_s(5.0) == 0.25


def test_a_task_without_a_run_pulls_all_the_same() -> None:
    with pulling():
        assert RUN_TIMES.get() is None
