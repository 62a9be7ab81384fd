"""The run table of a worker: which steps were offered, which run, which have ended. Pure.

A run is named by its key: equal steps of two builds, or of two coordinators, are one run with two listeners. With
an engine of claims a step begins when its claim comes; without one, when it is offered. Epochs are Lamport clocks:
a coordinator claims above the highest epoch that the worker has seen for the run, and an older claim is refused.
"""

from __future__ import annotations

from enum import StrEnum

from pybuild.model.dataclass import dataclass

ENDED_S = 600.0
"""As long as a run that ended well is known."""


class StepRunState(StrEnum):
    """The states of a run that somebody listens to, or that ended well."""

    OFFERED = "offered"
    RUNNING = "running"
    ENDED = "ended"


class ClaimVerdict(StrEnum):
    """The answers to a claim."""

    BEGIN = "begin"
    ATTACH = "attach"
    STALE = "stale"
    REFUSED = "refused"
    """Nobody has offered this run."""


@dataclass(slots=True, kw_only=True)
class StepRunRow:
    """A run.

    Attributes:
        epoch: the highest that a claim had.
        listeners: how many listen.
        ended: when, by the clock of who called.
    """

    state: StepRunState = StepRunState.OFFERED
    epoch: int = 0
    listeners: int = 0
    ended: float = 0.0


class StepRunTable:
    """All runs of a worker by their keys."""

    def __init__(self) -> None:
        self._rows: dict[str, StepRunRow] = {}

    def get(self, key: str) -> StepRunRow | None:
        """Return a run that is known."""
        return self._rows.get(key)

    def join(self, key: str) -> StepRunRow:
        """Offer a run, or listen to one that is known."""
        row = self._rows.setdefault(key, StepRunRow())
        row.listeners += 1
        return row

    def claim(self, key: str, epoch: int) -> ClaimVerdict:
        """Answer a claim. BEGIN is answered once for each run; who is answered so has to begin it."""
        row = self._rows.get(key)
        if row is None:
            return ClaimVerdict.REFUSED
        if epoch < row.epoch:
            return ClaimVerdict.STALE
        row.epoch = epoch
        return ClaimVerdict.BEGIN if self.begin(key) else ClaimVerdict.ATTACH

    def begin(self, key: str) -> bool:
        """Have a run that was offered run; return whether it was not running before."""
        row = self._rows[key]
        if row.state is not StepRunState.OFFERED:
            return False
        row.state = StepRunState.RUNNING
        return True

    def leave(self, key: str) -> bool:
        """Listen no more; return whether the run has to be stopped, since nobody else does."""
        row = self._rows[key]
        row.listeners -= 1
        if row.listeners or row.state is StepRunState.ENDED:
            return False
        del self._rows[key]
        return row.state is StepRunState.RUNNING

    def end(self, key: str, *, well: bool, now: float) -> None:
        """Note the end of a run. One that failed is forgotten: who wants it again shall have it run."""
        row = self._rows.pop(key, None)
        if row is not None and well:
            row.state, row.ended = StepRunState.ENDED, now
            self._rows[key] = row

    def forget(self, key: str) -> None:
        """Forget a run that has ended."""
        self._rows.pop(key, None)

    def expire(self, now: float) -> list[str]:
        """Forget the runs that ended long ago and that nobody listens to; return their keys."""
        old = [
            key
            for key, row in self._rows.items()
            if row.state is StepRunState.ENDED and not row.listeners and now - row.ended > ENDED_S
        ]
        for key in old:
            del self._rows[key]
        return old
