"""Directories of the builder's machine that every RUN of a build sees (``-v HOST:PATH``)."""

from __future__ import annotations

from enum import StrEnum

from pybuild.model.dataclass import dataclass
from pybuild.model.ops import HostMount

_PREFIX = "volume="  # no named context has an equals sign in its name


class VolumeAccess(StrEnum):
    """How steps may write to a volume."""

    READONLY = "ro"
    SCRATCH = "O"
    """Writes succeed and are lost at the end of the step."""
    WRITABLE = "rw"
    """Writes are to the directory itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVolume:
    """A directory of the machine, and its place in steps.

    Attributes:
        source: absolute path, without links.
        target: absolute path in the steps, cleaned.
        in_key: its content counts, as that of a build context does, and steps see a copy; else
            they see the directory itself, and only *target* and *access* count.
    """

    source: str
    target: str
    access: VolumeAccess = VolumeAccess.READONLY
    in_key: bool = True

    @property
    def tree(self) -> str:
        """The name of its local source."""
        return _PREFIX + self.target

    @property
    def host_mount(self) -> HostMount:
        return HostMount(
            target=self.target,
            source=self.source,
            readonly=self.access is VolumeAccess.READONLY,
            discard_writes=self.access is VolumeAccess.SCRATCH,
        )


def is_volume(tree: str) -> bool:
    """Whether a local source of this name is a volume."""
    return tree.startswith(_PREFIX)
