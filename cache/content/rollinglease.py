"""A lease for what many jobs of a long process share, such as results that a solver has loaded.

What is leased while a job goes on stays leased until that job ends, and every job that began while
it was there. So a process that always has some job lets go of what is old all the same.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

from pybuild.cache.content.leases import Lease, Leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator


class RollingLease:
    """A row of leases, a new one with each job. Safe to use from threads."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._lock = threading.Lock()
        self._row: dict[int, Lease] = {0: leases.create()}
        self._newest = 0
        self._jobs: list[int] = []

    def add(self, kind: str, name: str) -> None:
        """As `Lease.add`, for as long as the jobs of now go on."""
        self.add_all([(kind, name)])

    def add_all(self, things: list[tuple[str, str]]) -> None:
        """As `Lease.add_all`."""
        with self._lock:
            self._row[self._newest].add_all(things)

    @contextmanager
    def during(self) -> Generator[None]:
        """Count as a job: what is leased from now on stays until the end of the block at least."""
        with self._lock:
            self._newest += 1
            number = self._newest
            self._row[number] = self._leases.create()
            self._jobs.append(number)
        try:
            yield
        finally:
            with self._lock:
                self._jobs.remove(number)
                oldest = min(self._jobs, default=self._newest + 1)
                ended = [self._row.pop(one) for one in list(self._row) if one < oldest]
                if not self._row:
                    self._newest += 1
                    self._row[self._newest] = self._leases.create()
            for lease in ended:
                lease.close()

    def close(self) -> None:
        """Promise nothing any more."""
        with self._lock:
            for lease in self._row.values():
                lease.close()
