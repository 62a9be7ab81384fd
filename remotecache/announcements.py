"""Announces a step as done when the next builder would find its result, not before [CCH-10].

The steps above it go on meanwhile; only people and clients wait, and nobody for nothing: a step
whose result will not be carried is announced at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from pybuild.model.clock import Clock
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.events import Emit, Event, VertexProgress
from pybuild.model.ops import Vertex
from pybuild.solver.solution import Known

_TITLE = "carrying to the cache"


@dataclass(slots=True, eq=False)
class Announcement:
    """A vertex that is done, and not announced yet.

    Attributes:
        key: its result's; None before anybody looked.
    """

    vertex: Vertex
    event: Event
    emit: Emit
    key: Digest | None = None


class Announcements:
    """Keeps back the news that vertices are done.

    Args:
        carried: returns the bytes of a key's result that went to where others find it, None as
            long as it is not there.
    """

    def __init__(self, clock: Clock, carried: Callable[[Digest], int | None]) -> None:
        self._clock = clock
        self._carried = carried
        self._held: list[Announcement] = []

    def hold(self, vertex: Vertex, event: Event, emit: Emit) -> None:
        """Take an event that is to be announced; the `Announce` of a build that is carried."""
        self._held.append(Announcement(vertex, event, emit))

    def unseen(self) -> list[Announcement]:
        """Return the vertices that are not looked up yet; only a look begun after this shows them."""
        return [held for held in self._held if held.key is None]

    def sort(
        self,
        looked_for: Iterable[Announcement],
        known: Iterable[Known],
        carried: Collection[Digest],
    ) -> None:
        """Note the vertices whose keys are *carried*, and announce the rest."""
        for held in looked_for:
            keys = (solved.key(held.vertex) for solved in known)
            held.key = next((key for key in keys if key in carried), None)
            if held.key is not None:
                self._tell(held, 0, done=False)
            else:
                self._announce(held)

    def settle(self) -> None:
        """Announce the vertices whose results have been carried."""
        for held in list(self._held):
            size = None if held.key is None else self._carried(held.key)
            if size is not None:
                if size:  # or it is a base image's, which is where it came from
                    self._tell(held, size, done=True)
                self._announce(held)

    def release(self) -> None:
        """Announce all: nothing is carried any more."""
        self.settle()
        for held in list(self._held):
            self._announce(held)

    def _announce(self, held: Announcement) -> None:
        self._held.remove(held)
        held.emit(held.event)

    def _tell(self, held: Announcement, size: int, *, done: bool) -> None:
        event = VertexProgress(
            vertex=held.vertex.digest,
            id=_TITLE,
            current=size,
            total=size,
            done=done,
            time=self._clock.now(),
        )
        held.emit(event)
