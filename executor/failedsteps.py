"""Steps that failed, with the trees that they left: for whoever wants to look into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.ops import ExecOp, Vertex
from pybuild.model.snapshot import Result, Snapshot


@dataclass(frozen=True, slots=True)
class FailedStep:
    """One of them.

    Attributes:
        inputs: the results of the vertex's inputs.
        mounts: the trees of an exec op's mounts as it left them, by the number of the mount; those
            that it could not write to are not there. Of a file op, the tree as its failed action left it,
            by the action's number.
    """

    vertex: Vertex
    inputs: Sequence[Result]
    mounts: Mapping[int, Snapshot]

    def as_left(self) -> tuple[ExecOp, Sequence[Result]]:
        """Return the exec op with its inputs where it would begin with the trees that it has left."""
        op = self.vertex.op
        assert isinstance(op, ExecOp)
        inputs, mounts = [*self.inputs], [*op.mounts]
        for number, tree in self.mounts.items():
            if number >= 0:  # the root of an op that names none has the number -1
                mounts[number] = replace(mounts[number], input=len(inputs))
                inputs.append(tree)
        return replace(op, mounts=tuple(mounts)), inputs


KeepFailed = Callable[[FailedStep], None]
"""Takes a failed step, whose trees are there until the build ends."""


class FailedTrees:
    """The trees that failed steps of one build have left."""

    def __init__(self, store: Store) -> None:
        self._takers: list[KeepFailed] = []
        self._store = store
        self._deltas: list[str] = []

    def tell(self, take: KeepFailed) -> None:
        """From now on let *take* have the steps, too."""
        if take not in self._takers:
            self._takers.append(take)

    def keep(self, step: FailedStep) -> None:
        """Keep what a step left until `close`."""
        self._deltas += [tree.deltas[-1] for tree in step.mounts.values()]
        for take in self._takers:
            take(step)

    def leave(self, tree: Snapshot) -> None:
        """Leave a tree in the store beyond `close`: something there needs it from now on."""
        self._deltas.remove(tree.deltas[-1])

    def close(self) -> None:
        """Delete all."""
        for id in self._deltas:
            if taken := self._store.deltas.take_away(id):
                self._store.discard(taken)
        self._deltas.clear()
