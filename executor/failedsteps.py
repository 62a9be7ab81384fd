"""A step that failed, with the trees that it left: for whoever wants to look into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pybuild.model.dataclass import dataclass
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Result, Snapshot


@dataclass(frozen=True, slots=True)
class FailedStep:
    """One of them.

    Attributes:
        inputs: the results of the vertex's inputs.
        mounts: the trees of an exec op's mounts as it left them, by the number of the mount; those
            that it could not write to are not there.
    """

    vertex: Vertex
    inputs: Sequence[Result]
    mounts: Mapping[int, Snapshot]


KeepFailed = Callable[[FailedStep], None]
"""Takes a failed step, whose trees are there until the build ends."""
