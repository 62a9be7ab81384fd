"""What solving gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pybuild.model.digest import Digest
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Result
from pybuild.solver.runner import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """The result of one vertex.

    Attributes:
        key: what it is stored under; None for what has no key, such as a local source.
        created: when it was made, seconds since the epoch; for a stored result long ago.
        seconds: how long that took.
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


class Solution:
    """The targets' results in the order asked for, and those of vertices met on the way.

    Below a stored result nothing is looked up, so nothing is known of the vertices there.
    """

    def __init__(self, targets: tuple[Vertex, ...], solved: Mapping[Digest, Solved]) -> None:
        self._solved = dict(solved)
        self.targets = tuple(self._solved[target.digest] for target in targets)

    def of(self, vertex: Vertex) -> Solved:
        """Return what is known of *vertex*.

        Raises:
            KeyError: it lies below a stored result.
        """
        return self._solved[vertex.digest]

    def get(self, vertex: Vertex) -> Solved | None:
        """Return what is known of *vertex*; None when it lies below a stored result."""
        return self._solved.get(vertex.digest)
