"""The seam through which time enters."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time. Room code never reads it any other way, so tests can turn it by hand."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class FakeClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds
