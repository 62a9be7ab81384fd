"""The trees besides the result whose contents are to be scanned [EV-12, ATT-3]."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.frontend.lowering.stages import StageNode
from pybuild.frontend.lowering.stagestate import BuildScope, StageState
from pybuild.model.ops import Vertex

_CONTEXT, _STAGE = "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def scanned_trees(
    target: StageNode, states: Mapping[StageNode, StageState], scope: BuildScope
) -> dict[str, Vertex]:
    """Return the stages that ask for it, by name, and the build context, as ``context``.

    Only what the target needs is in *states*, so nothing is built for a scan alone. The two ARGs
    count in the stage that declares them, or everywhere where they stand before the first FROM.
    """
    trees: dict[str, Vertex] = {}
    if _asks(target, states[target], scope, _CONTEXT):
        trees["context"] = scope.local("context")
    for node, state in states.items():
        if node is not target and node.index >= 0 and _asks(node, state, scope, _STAGE):
            trees[node.label] = state.vertex
    return trees


def _asks(node: StageNode, state: StageState, scope: BuildScope, name: str) -> bool:
    """Return whether the variable says yes, or names the stage."""
    values = [value for key, value in state.args if key == name and value is not None]
    value = values[-1] if values else scope.globals.get(name, "")
    if value in _TRUE:
        return True
    return value not in _FALSE and bool(node.name) and node.name in value.split(",")
