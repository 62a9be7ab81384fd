"""Claims: what goes through the engine of a cluster for each step, and comes back."""

from __future__ import annotations

from enum import StrEnum

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest


class ClaimState(StrEnum):
    """The ends of a claim."""

    ENDED = "ended"
    """The run has ended well, and its worker knows its outcome for some minutes."""
    FAILED = "failed"
    REFUSED = "refused"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepClaim:
    """A place on a worker for a run.

    Attributes:
        coordinator: for people.
    """

    run: str
    epoch: int
    coordinator: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEnd:
    """The end of a claim.

    Attributes:
        worker: the name of the worker that had it.
    """

    run: str
    epoch: int
    state: ClaimState
    worker: str


def run_key(key: Digest, format: int) -> str:
    """Return the name of the run whose result is kept under *key*."""
    return Digest.of(b"pybuild run %d %s" % (format, str(key).encode())).hex
