"""The steps of one build that failed, as its client gets to look into them (``errdefs.Solve``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb import ops as pb
from pybuild.buildkit.pb.errors import SolveDetail
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.executor.failedsteps import FailedStep
from pybuild.frontend.lowering import paths
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, LocalSource, ScratchSource, Vertex
from pybuild.model.snapshot import Snapshot


class FailedSteps:
    """Keeps what failed, by the vertex.

    Attributes:
        define: writes what the client gets as the definition of a vertex.
        offered: the trees that errors have named, by their ids.
    """

    def __init__(self) -> None:
        self.define: Callable[[Vertex], pb.Definition] = write
        self.offered: dict[str, LazyTree] = {}
        self._steps: dict[str, FailedStep] = {}
        self._details: dict[str, SolveDetail] = {}

    def add(self, step: FailedStep) -> None:
        self._steps[step.vertex.digest] = step

    def detail(self, vertex: str) -> SolveDetail | None:
        """Return the op of a vertex that failed, and references to what went in and what it left."""
        step = self._steps.get(vertex)
        if step is not None and vertex not in self._details:
            try:
                self._details[vertex] = self._detail_of(step)
            except UserError:  # something in it cannot be said there
                return None
        return self._details.get(vertex)

    def _offer(self, snapshot: Snapshot) -> str:
        """Return a new reference to a tree that is there already."""

        async def given(_: Vertex) -> Snapshot:
            return snapshot

        tree = LazyTree(Vertex(ScratchSource()), given)
        self.offered[tree.id] = tree
        return tree.id

    async def close(self) -> None:
        self._steps.clear()
        self._details.clear()
        for tree in self.offered.values():
            await tree.close()
        self.offered.clear()

    def _detail_of(self, step: FailedStep) -> SolveDetail:
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

    def _written(self, vertex: Vertex) -> tuple[pb.Op, Mapping[str, str]]:
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
        return op, dict(definition.metadata[last.digest].description)
