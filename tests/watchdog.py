"""A stop for work that has no end, by the processor's time: no measure of how fast it is."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

# Fifty times what the largest input takes on a slow machine, and far less than a quadratic way takes.
_LIMIT_S = 90.0


class Runaway(BaseException):
    """The work does not end; no handler of the code under test may catch that."""


@contextmanager
def ends() -> Generator[None]:
    """Stop the work within that takes more than the limit of processor time, and fail."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Runaway(f"more than {_LIMIT_S:.0f} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
