"""The outcome of solving: results and keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.events import Emit, Event
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Result
from pybuild.solver import keys
from pybuild.solver.runner import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """The result of one vertex.

    Attributes:
        key: its cache key; None for a vertex that has none, such as a local source.
        created: when it was made, seconds since the epoch; for a stored result long ago.
        seconds: the duration of that run.
        cached: nothing ran for it in this build.
    """

    result: Result
    key: Digest | None = None
    created: float = 0.0
    seconds: float = 0.0
    cached: bool = False

    @classmethod
    def of_record(cls, record: Record) -> Solved:
        return cls(
            result=record.snapshot,
            key=record.key,
            created=record.created,
            seconds=record.seconds,
            cached=True,
        )


class Known:
    """The results and keys of a definition's vertices, be it solved or on the way to that.

    Below a stored result nothing is looked up, so of the vertices there only the keys are known.
    """

    def __init__(
        self,
        solved: Mapping[Digest, Solved] | None = None,
        known_keys: Mapping[Digest, Digest] | None = None,
    ) -> None:
        self._solved = dict(solved or {})
        self._keys = dict(known_keys or {})

    def get(self, vertex: Vertex) -> Solved | None:
        """Return the result of *vertex*; None when it has none, or none that was looked up."""
        return self._solved.get(vertex.digest)

    def key(self, vertex: Vertex) -> Digest | None:
        """Return the key of *vertex*'s result, whether that is made or not; None if it has no key."""
        return self._keys.get(vertex.digest)

    def alias(self, vertex: Vertex) -> Digest | None:
        """Return the definition key that stands for the content key of *vertex*.

        None: its key is no content key, or says more than its inputs' keys do.
        """
        if not keys.content_inputs(vertex):
            return None
        input_keys = [self._keys.get(source.digest) for source in vertex.inputs]
        known = [key for key in input_keys if key is not None]
        if len(known) < len(input_keys):
            return None
        return keys.definition_key(keys.definition_part(vertex.op), known)


class Solution(Known):
    """The targets' results in the order asked for, and those of vertices met on the way."""

    def __init__(
        self,
        targets: tuple[Vertex, ...],
        solved: Mapping[Digest, Solved],
        known_keys: Mapping[Digest, Digest] | None = None,
    ) -> None:
        super().__init__(solved, known_keys)
        self.targets = tuple(self._solved[target.digest] for target in targets)

    def of(self, vertex: Vertex) -> Solved:
        """Return the result of *vertex*.

        Raises:
            KeyError: it lies below a stored result.
        """
        return self._solved[vertex.digest]


Announce = Callable[[Vertex, Event, Emit], None]
"""Says, through the `Emit`, that a vertex is done: now, or when somebody else may count on it."""


def at_once(_vertex: Vertex, event: Event, emit: Emit) -> None:
    """Nobody keeps results but this store, which has them."""
    emit(event)


class Progress:
    """A window on a build that is being solved; what was last seen through it stays.

    Args:
        notify: called on the event loop after each result.
        announce: called on the event loop when a vertex is done and its result stored. What stands
            on it goes on meanwhile.
    """

    def __init__(self, notify: Callable[[], None], announce: Announce = at_once) -> None:
        self.notify = notify
        self.announce = announce
        self._look: Callable[[], Known] = Known
        self._written: Callable[[], Awaitable[None]] | None = None

    def begin(self, look: Callable[[], Known], written: Callable[[], Awaitable[None]]) -> None:
        """Look through *look* from now on; *written* waits until what it shows is stored."""
        self._look, self._written = look, written

    def end(self, known: Known) -> None:
        """Keep *known*, with which it ended well or not."""
        self._look = lambda: known

    async def known(self) -> Known:
        """Return the results and keys that are known by now and written down."""
        known = self._look()
        if self._written is not None:
            await self._written()
        return known
