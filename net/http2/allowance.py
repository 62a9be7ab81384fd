"""Holds a peer to a number of frames that cost us work and bring nothing."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.net.http2.errors import ConnectionFault, ErrorCode


class Allowance:
    """A bucket of *capacity* points that refills by *per_s* each second."""

    __slots__ = ("_capacity", "_clock", "_left", "_per_s", "_then")

    def __init__(self, capacity: int, per_s: float, clock: Callable[[], float]) -> None:
        self._capacity = float(capacity)
        self._per_s = per_s
        self._clock = clock
        self._left = float(capacity)
        self._then = clock()

    def spend(self, points: int, why: str) -> None:
        """Take *points*.

        Raises:
            ConnectionFault: there are not so many, also not with those of the time that passed.
        """
        self._left -= points
        if self._left < 0:
            now = self._clock()
            self._left = min(self._capacity, self._left + (now - self._then) * self._per_s)
            self._then = now
            if self._left < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {why}")

    def earn(self, points: int) -> None:
        """Give some back, for a frame that was of use."""
        self._left = min(self._capacity, self._left + points)
