"""The health of a worker: what it did wrong, and until when it gets no work for that. Pure.

Who lies, or hangs, is set aside at once. A fault of its machine, such as a full disk, may be the step's own
doing: it takes some, of several steps. Each time lasts twice as long as the one before, until it has been
well for as long again.
"""

from __future__ import annotations

from collections import deque

_FIRST_S = 10.0
_LONGEST_S = 600.0
_FAULTS = 3
_STEPS = 2
_WITHIN_S = 600.0


class Misconduct(Exception):
    """A worker said or sent what no worker of ours would."""


class WorkerHealth:
    """One worker's record; times are a monotonic clock's.

    Attributes:
        until: it gets no work before that.
        reason: why.
    """

    def __init__(self) -> None:
        self.until = 0.0
        self.reason = ""
        self._lasts_s = 0.0
        self._faults: deque[tuple[float, str]] = deque(maxlen=64)

    def is_well(self, now: float) -> bool:
        """Return whether it gets work."""
        return now >= self.until

    def set_aside(self, now: float, reason: str) -> float:
        """Give it no work for a time; return for how many seconds."""
        if not self.is_well(now):
            return self.until - now  # for what it did while it was well
        is_relapse = now < self.until + max(self._lasts_s, _WITHIN_S) and self._lasts_s > 0
        self._lasts_s = min(self._lasts_s * 2, _LONGEST_S) if is_relapse else _FIRST_S
        self.until, self.reason = now + self._lasts_s, reason
        self._faults.clear()
        return self._lasts_s

    def faulted(self, now: float, step: str, reason: str) -> None:
        """Note a fault of its machine in *step*; with some others it is set aside."""
        self._faults.append((now, step))
        recent = [one for at, one in self._faults if now - at <= _WITHIN_S]
        if len(recent) >= _FAULTS and len(set(recent)) >= _STEPS:
            self.set_aside(now, reason)
