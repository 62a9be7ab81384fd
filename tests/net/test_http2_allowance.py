"""The bucket of points that floods are paid from; its clock is turned by hand."""

from __future__ import annotations

import pytest

from pybuild.net.http2.errors import ConnectionFault
from pybuild.net.http2.table import Allowance
from tests.net.wire import Clock


def spent(allowance: Allowance) -> int:
    """Return the points that can be spent one by one until the peer is cut off."""
    for count in range(1_000):
        try:
            allowance.spend(1, "frames")
        except ConnectionFault:
            return count
    raise AssertionError("an allowance without end")


def test_useful_frames_give_back_what_they_are_worth_and_no_more() -> None:
    allowance = Allowance(10, 1, Clock())
    allowance.spend(10, "frames")
    allowance.earn(3)
    assert spent(allowance) == 3


def test_nothing_is_saved_up_above_the_capacity() -> None:
    allowance = Allowance(10, 1, Clock())
    allowance.earn(500)
    assert spent(allowance) == 10


def test_time_gives_points_back_up_to_the_capacity() -> None:
    clock = Clock()
    allowance = Allowance(10, 2, clock)
    allowance.spend(10, "frames")
    clock.now = 3.0
    assert spent(allowance) == 6
    clock.now = 1_000.0
    assert spent(allowance) == 11  # the frame that asks for the time is paid from it


def test_the_last_point_may_be_spent_and_the_fault_names_what_it_was_spent_on() -> None:
    allowance = Allowance(2, 1, Clock())
    allowance.spend(2, "pings")
    with pytest.raises(ConnectionFault, match="too many pings"):
        allowance.spend(1, "pings")
