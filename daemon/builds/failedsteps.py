"""The steps of one build that failed, as its client gets to look into them (``errdefs.Solve``)."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping

from pybuild.buildkit.llb.files import ReceivedActions
from pybuild.buildkit.llb.write import write
from pybuild.buildkit.llb.writefiles import written_numbers
from pybuild.buildkit.pb import ops as pb
from pybuild.buildkit.pb.errors import SolveDetail
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.executor.failedsteps import FailedStep
from pybuild.frontend.lowering import paths
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import ExecOp, FileOp, LocalSource, ScratchSource, Vertex, walk
from pybuild.model.snapshot import Result, Snapshot

Solve = Callable[[Vertex], Awaitable[Snapshot]]
Described = tuple[pb.Op, Mapping[str, str]]


class FailedSteps:
    """Keeps what failed, by the vertex.

    Attributes:
        define: writes what the client gets as the definition of a vertex.
        places: where vertices come from in file ops that the client sent, by their digests.
        offered: the trees that errors have named, by their ids.

    Args:
        references: gives the trees that frontends made.
    """

    def __init__(self, references: Callable[[], Iterable[LazyTree]]) -> None:
        self.define: Callable[[Vertex], pb.Definition] = write
        self.places: Mapping[Digest, ReceivedActions] = {}
        self.offered: dict[str, LazyTree] = {}
        self._references = references
        self._steps: dict[str, FailedStep] = {}
        # By what failed and by the received op that has it: two definitions may come to the same.
        self._details: dict[tuple[str, int, ReceivedActions | None], SolveDetail] = {}

    def add(self, step: FailedStep) -> None:
        self._steps[step.vertex.digest] = step

    def detail(self, error: PybuildError, solve: Solve | None) -> SolveDetail | None:
        """Return the op of the vertex that *error* is about, and references to what went in and what it left.

        Args:
            solve: makes a tree that somebody looks into.
        """
        key = error.vertex, error.input, self.places.get(Digest(error.vertex))
        if error.vertex and key not in self._details:
            try:
                detail = self._detail_of(error, solve)
            except UserError:  # something in it cannot be said there
                return None
            if detail is not None:
                self._details[key] = detail
        return self._details.get(key)

    def _detail_of(self, error: PybuildError, solve: Solve | None) -> SolveDetail | None:
        if error.input >= 0:
            return self._unread(error.vertex, error.input, solve)
        step = self._steps.get(error.vertex)
        if step is None:
            return None
        return self._file(step) if isinstance(step.vertex.op, FileOp) else self._exec(step)

    def _offer(self, snapshot: Snapshot) -> str:
        """Return a new reference to a tree that is there already."""

        async def given(_: Vertex) -> Snapshot:
            return snapshot

        return self._offer_tree(LazyTree(Vertex(ScratchSource()), given))

    def _offer_tree(self, tree: LazyTree) -> str:
        self.offered[tree.id] = tree
        return tree.id

    def _offer_result(self, result: Result) -> str:
        return self._offer(result) if isinstance(result, Snapshot) else ""

    async def close(self) -> None:
        self._steps.clear()
        self._details.clear()
        self.places = {}
        for tree in self.offered.values():
            await tree.close()
        self.offered.clear()

    def _exec(self, step: FailedStep) -> SolveDetail:
        op, description = self._written(step.vertex)
        assert isinstance(step.vertex.op, ExecOp)
        by_target = {mount.target: n for n, mount in enumerate(step.vertex.op.mounts)}
        inputs: list[str] = []
        mounts: list[str] = []
        for mount in op.exec.mounts:
            number = by_target.get(paths.join("/", mount.dest), -1)
            ours = step.vertex.op.mounts[number].input if number >= 0 else None
            given = None if ours is None else step.inputs[ours]
            tree = given if isinstance(given, Snapshot) and mount.input >= 0 else None
            inputs.append("" if tree is None else self._offer(tree))
            left = step.mounts.get(number)
            mounts.append(inputs[-1] if left is None else self._offer(left))
        return SolveDetail(tuple(inputs), tuple(mounts), op, description)

    def _file(self, step: FailedStep) -> SolveDetail | None:
        """Tell of a file op: trees of its inputs, then of its actions, so far as this part of it has them."""
        ((ours, left),) = step.mounts.items()
        place = self.places.get(step.vertex.digest)
        received = None if place is None else self._received(place.op)
        if place is None or received is None:
            op, description = self._written(step.vertex)
            assert isinstance(step.vertex.op, FileOp)
            counted = itertools.count()
            trees = [
                -1 if one.op == ScratchSource() else next(counted) for one in step.vertex.inputs
            ]
            place = ReceivedActions(Digest(""), written_numbers(step.vertex.op), tuple(trees))
        else:
            op, description = received
        action = place.numbers[ours]
        ids = ["" for _ in (*op.inputs, *op.file.actions)]
        for reference, result in zip(place.trees, step.inputs, strict=True):
            if 0 <= reference < len(ids):
                ids[reference] = self._offer_result(result)
        first = len(op.inputs)
        ids[first + action] = self._offer(left)
        return SolveDetail(tuple(ids[:first]), tuple(ids[first:]), op, description, action=action)

    def _unread(self, vertex: str, number: int, solve: Solve | None) -> SolveDetail | None:
        """Tell of the input of a vertex that lacks what the vertex reads of it."""
        if solve is None:
            return None
        for reference in self._references():
            for one in walk(reference.vertex):
                if one.digest == vertex:
                    tree = self._offer_tree(LazyTree(one.inputs[number], solve))
                    place = self.places.get(one.digest)
                    received = None if place is None else self._received(place.op)
                    op, description = received or self._written(one)
                    return SolveDetail((tree,), (), op, description, unread=number)
        return None

    def _received(self, id: Digest) -> Described | None:
        """Return the op that the client sent under *id*."""
        for reference in self._references():
            definition = reference.definition()
            for data in () if definition is None else definition.defs:
                if Digest.of(data) == id:
                    return pb.Op.FromString(data), _description(definition, id)
        return None

    def _written(self, vertex: Vertex) -> Described:
        """Return the op of *vertex* as the client's definition has it, byte by byte, and its description.

        Debuggers look for the op's digest there. Where something below the vertex cannot be said in a
        definition, the op stands alone.
        """
        try:
            definition = self.define(vertex)
        except UserError:
            inputs = tuple(
                one if isinstance(one.op, ScratchSource) else Vertex(LocalSource(name=one.digest))
                for one in vertex.inputs
            )
            definition = write(Vertex(vertex.op, inputs, vertex.meta))
        (last,) = pb.Op.FromString(definition.defs[-1]).inputs
        op = pb.Op.FromString(definition.defs[-2])
        return op, _description(definition, last.digest)


def _description(definition: pb.Definition | None, id: str) -> Mapping[str, str]:
    return {} if definition is None else dict(definition.metadata[id].description)
