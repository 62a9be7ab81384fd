"""The seam through which time enters."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time. Room code never reads it any other way, so tests can turn it by hand."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...
