"""Clocks that tests turn by hand."""

from __future__ import annotations


class FakeClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds
