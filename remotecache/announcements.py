"""Says that a step is done when the next builder would find its result, and not before [CCH-10].

What stands on the step goes on meanwhile; only people and clients wait, and nobody for nothing:
what will not be carried is announced at once.
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
class Held:
    """A vertex that is done, and that nobody was told of.

    Attributes:
        key: what its result is found under; None before anybody looked.
    """

    vertex: Vertex
    event: Event
    emit: Emit
    key: Digest | None = None


class Announcements:
    """Keeps back that vertices are done.

    Args:
        carried: returns how many bytes the result of a key took to where others find it, None as
            long as it is not there.
    """

    def __init__(self, clock: Clock, carried: Callable[[Digest], int | None]) -> None:
        self._clock = clock
        self._carried = carried
        self._held: list[Held] = []

    def hold(self, vertex: Vertex, event: Event, emit: Emit) -> None:
        """Take what is to be said; the `Announce` of a build that is carried."""
        self._held.append(Held(vertex, event, emit))

    def unseen(self) -> list[Held]:
        """Return what nobody has looked up; a look begun before this call does not show it."""
        return [one for one in self._held if one.key is None]

    def sort(
        self, looked_for: Iterable[Held], known: Iterable[Known], carried: Collection[Digest]
    ) -> None:
        """Note what is among the *carried* keys, and announce the rest."""
        for one in looked_for:
            keys = (solved.key(one.vertex) for solved in known)
            one.key = next((key for key in keys if key in carried), None)
            if one.key is not None:
                self._tell(one, 0, done=False)
            else:
                self._announce(one)

    def settle(self) -> None:
        """Announce what has been carried."""
        for one in list(self._held):
            size = None if one.key is None else self._carried(one.key)
            if size is not None:
                if size:  # or it is a base image's, which is where it came from
                    self._tell(one, size, done=True)
                self._announce(one)

    def release(self) -> None:
        """Announce all: nothing is carried any more, and what was not has been told of."""
        self.settle()
        for one in list(self._held):
            self._announce(one)

    def _announce(self, one: Held) -> None:
        self._held.remove(one)
        one.emit(one.event)

    def _tell(self, one: Held, size: int, *, done: bool) -> None:
        event = VertexProgress(
            vertex=one.vertex.digest,
            id=_TITLE,
            current=size,
            total=size,
            done=done,
            time=self._clock.now(),
        )
        one.emit(event)
