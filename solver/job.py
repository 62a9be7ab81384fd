"""One build request as the state machine sees it: its vertices and the phases that its watchers saw."""

from __future__ import annotations

from collections.abc import Iterator

from pybuild.model.ops import LocalSource, Vertex
from pybuild.solver.messages import Phase
from pybuild.solver.node import Node

_LAST = (Phase.CACHED, Phase.COMPLETED, Phase.FAILED)


class Job:
    """A job's part of the graph.

    Attributes:
        nodes: with their place in the definition, inputs before users.
        phases: the latest phase of each node that the watchers saw.
    """

    def __init__(self, name: str, targets: tuple[Vertex, ...]) -> None:
        self.name = name
        self.vertices = targets
        self.targets: list[Node] = []
        self.nodes: dict[Node, int] = {}
        self.phases: dict[Node, Phase] = {}
        self._unsettled_users: dict[Node, int] = {}
        self._settled: set[Node] = set()

    @staticmethod
    def is_own(vertex: Vertex) -> bool:
        """Return whether a vertex means something else in every job."""
        return isinstance(vertex.op, LocalSource)

    def add(self, node: Node) -> None:
        self.nodes[node] = len(self.nodes)
        self._unsettled_users[node] = 0
        for source in node.distinct:
            self._unsettled_users[source] += 1

    def add_target(self, node: Node) -> None:
        if node not in self.targets:
            self.targets.append(node)
            self._unsettled_users[node] += 1

    def settle(self, node: Node) -> list[Node]:
        """Note that a node has its result; return the nodes below that nobody needs any more.

        Those are what people see as CACHED though nothing was looked up for them [UI-4]: all
        their users have a result, or need none themselves.
        """
        if node in self._settled:
            return []
        self._settled.add(node)
        covered: list[Node] = []
        stack = [node]
        while stack:
            for source in stack.pop().distinct:
                self._unsettled_users[source] -= 1
                if self._unsettled_users[source] == 0 and source not in self._settled:
                    self._settled.add(source)
                    covered.append(source)
                    stack.append(source)
        return covered

    def is_to_end_again(self, node: Node) -> None:
        """Note that the result of a node, which the watchers saw end, is made once more.

        So may be those below that were CACHED only because nobody needed them.
        """
        stack = [node]
        while stack:
            one = stack.pop()
            if self.phases.pop(one, None) is not None:
                stack.extend(source for source in one.distinct if source.solved is None)

    def is_settled(self, node: Node) -> bool:
        """Return whether the job needs nothing more of a node."""
        return node in self._settled

    def may_tell(self, node: Node, phase: Phase) -> bool:
        """Return whether *phase* is new to the watchers; from now on it is not."""
        last = self.phases.get(node)
        if last == phase or last in _LAST:
            return False
        self.phases[node] = phase
        return True

    def is_going(self, node: Node) -> bool:
        """Return whether the watchers saw it start and not end."""
        return self.phases.get(node) is Phase.STARTED


def every(targets: tuple[Vertex, ...]) -> Iterator[Vertex]:
    """Yield every vertex object below, also several of one digest: they may differ in meta."""
    seen: set[int] = set()
    stack = list(targets)
    while stack:
        vertex = stack.pop()
        if id(vertex) not in seen:
            seen.add(id(vertex))
            yield vertex
            stack.extend(vertex.inputs)
