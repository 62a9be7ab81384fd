"""The numbers of vertices that run at once."""

from __future__ import annotations

import os

from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The numbers of vertices of each kind that may run at once; the processor divides itself further.

    Attributes:
        steps: processes. Many wait for something else, so there are more than processors.
        files: copies and the like, heavy on the disk.
        sources: transfers.
        digests: content digests, heavy on disk and processor.
    """

    steps: int
    files: int
    sources: int
    digests: int

    @classmethod
    def of_machine(cls, steps: int = 0) -> Budgets:
        """Return the budgets that suit this machine; *steps* overrides the number of steps, 0 does not."""
        cpus = len(os.sched_getaffinity(0))
        return cls(
            steps=steps or max(16, 4 * cpus),
            files=max(4, 2 * cpus),
            sources=8,
            digests=max(4, cpus),
        )

    def of_fleet(self, slots: int) -> dict[str, int]:
        """Return the numbers of steps and files where machines with so many slots do both; 0: this one does."""
        return {"steps": slots or self.steps, "files": max(slots, self.files)}
