"""Work shared among threads: all of it done, and by nobody any more, when the call returns."""

from __future__ import annotations

import threading

import pytest

from pybuild.executor.trees.filereading import for_each


@pytest.fixture
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    def four(_pid: int) -> set[int]:
        return set(range(4))

    monkeypatch.setattr("os.sched_getaffinity", four)


@pytest.mark.usefixtures("four_processors")
def test_nobody_works_any_more_when_it_returns() -> None:
    """A helper that has the last item is waited for, though nothing is left to begin."""
    main = threading.get_ident()
    helper_begun, rest_is_done = threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        if threading.get_ident() == main:
            assert helper_begun.wait(60)
        elif not helper_begun.is_set():
            helper_begun.set()
            rest_is_done.wait(0.05)
        done.append(item)

    for_each(work, range(20))
    assert sorted(done) == list(range(20))


@pytest.mark.usefixtures("four_processors")
def test_threads_share_the_items() -> None:
    meeting = threading.Barrier(4)
    threads: set[int] = set()

    def work(item: int) -> None:
        meeting.wait(60)
        threads.add(threading.get_ident())

    for_each(work, range(4))
    assert len(threads) == 4


def test_all_is_done_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    done: list[int] = []
    for_each(done.append, [1, 2, 3])
    assert done == [1, 2, 3]
    for_each(done.append, [])
