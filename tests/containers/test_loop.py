"""The monitor's poll: what is let go of while others are served, and times that are far away."""

from __future__ import annotations

import os

import pytest

from pybuild.containers.loop import Loop


def test_what_another_lets_go_of_in_the_same_turn_is_nobody_elses() -> None:
    """Both are ready; whoever comes first forgets the second, which must not be taken for a child."""
    loop = Loop()
    served: list[int] = []
    pipes = [os.pipe(), os.pipe()]
    ends = [read_end for read_end, _ in pipes]
    loop.others = lambda fd: pytest.fail(f"{fd} is no child")

    def serve(fd: int) -> None:
        served.append(fd)
        for other in ends:
            if other != fd:
                loop.forget(other)

    for read_end, write_end in pipes:
        loop.watch(read_end, lambda events, fd=read_end: serve(fd))  # type: ignore[misc]
        os.write(write_end, b"x")
    loop.turn()
    assert len(served) == 1
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


@pytest.mark.parametrize("seconds", [3e6, float("inf")])
def test_a_time_that_is_far_away_is_waited_for(seconds: float) -> None:
    """A month is more milliseconds than poll(2) takes."""
    loop = Loop()
    far = loop.after(seconds, lambda: pytest.fail("it is not over"))
    done: list[bool] = []
    loop.after(0, lambda: done.append(True))
    while not done:
        loop.turn()
    assert far.act is not None
    far_alone = Loop()
    far_alone.after(seconds, lambda: pytest.fail("it is not over"))
    read_end, write_end = os.pipe()
    far_alone.watch(read_end, lambda events: far_alone.forget(read_end))
    os.write(write_end, b"x")
    far_alone.turn()
    os.close(read_end)
    os.close(write_end)
