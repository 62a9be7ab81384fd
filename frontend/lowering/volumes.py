"""Volumes of the request in a RUN: what counts by content is a bind of a local source."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pybuild.frontend.lowering.stagestate import BuildScope
from pybuild.model.errors import UserError
from pybuild.model.ops import HostMount, Mount, Vertex
from pybuild.model.volumes import HostVolume, VolumeAccess


def add_volumes(
    scope: BuildScope, mounts: list[Mount], index: Callable[[Vertex], int]
) -> tuple[HostMount, ...]:
    """Add the volumes that count to *mounts* and return the others.

    Args:
        mounts: those of the instruction, and the root.
        index: returns a vertex's number among the inputs of the step.

    Raises:
        UserError: a mount of the instruction is in a volume's place, or has none without a trace.
    """
    others: list[HostMount] = []
    own = list(mounts)
    for volume in scope.options.volumes:
        _check(volume, own)
        if volume.in_key:
            mounts.append(
                Mount(
                    target=volume.target,
                    input=index(scope.local(volume.tree)),
                    readonly=volume.access is VolumeAccess.READONLY,
                )
            )
        else:
            others.append(volume.host_mount)
    return tuple(others)


def _check(volume: HostVolume, mounts: Sequence[Mount]) -> None:
    for mount in mounts:
        if mount.target == volume.target:
            raise UserError(
                f"{volume.target} is a mount of this step, and a volume (-v) too",
                hints=["give the volume another path"],
            )
        # Its mount point would stay behind in the directory of the machine.
        inside = mount.target.startswith(volume.target.rstrip("/") + "/")
        if inside and volume.access is VolumeAccess.WRITABLE:
            raise UserError(
                f"the mount {mount.target} of this step lies in the volume {volume.target}, which "
                "is writable",
                hints=["mount it beside the volume, or give the volume with :ro or :O"],
            )
