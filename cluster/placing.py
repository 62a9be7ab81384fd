"""The placer: on which worker a step runs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pybuild.model.dataclass import dataclass
from pybuild.model.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A worker as the placer sees it.

    Attributes:
        has: the deltas that it holds.
    """

    address: str
    platforms: tuple[Platform, ...]
    slots: int
    busy: int
    has: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The needs of a step.

    Attributes:
        platform: None for file operations, which any machine does.
        deltas: all of its inputs.
        avoid: addresses of workers that have failed it.
    """

    platform: Platform | None
    deltas: tuple[str, ...]
    avoid: frozenset[str] = frozenset()


def fitting(needs: Needs, workers: Iterable[Candidate]) -> list[Candidate]:
    """Return the workers that can run the step at all, busy or not."""
    return [
        worker
        for worker in workers
        if worker.address not in needs.avoid
        and (needs.platform is None or needs.platform in worker.platforms)
    ]


def place(needs: Needs, workers: Iterable[Candidate], sizes: Mapping[str, int]) -> Candidate | None:
    """Return the worker with a free slot to which the fewest bytes have to move; None: all are busy.

    Ties go to the one with the most free slots, then by address, so that equal questions have equal
    answers.

    Args:
        sizes: bytes of deltas, as far as known; the others count as little.
    """
    free = [worker for worker in fitting(needs, workers) if worker.busy < worker.slots]

    def cost(worker: Candidate) -> tuple[int, int, str]:
        moved = sum(sizes.get(delta, 1) for delta in needs.deltas if delta not in worker.has)
        return moved, worker.busy - worker.slots, worker.address

    return min(free, key=cost, default=None)
