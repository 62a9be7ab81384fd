"""A mount of a container, besides its own file tree [CTR-100]."""

from __future__ import annotations

import os

from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.model.border import NamedTuple
from pybuild.model.errors import EnvironmentFault, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

LOCAL = "local"
"""The only driver of volumes."""


class MountKind:
    """The kinds of mounts, as docker's Type has them."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


class MountOrigin:
    """The origin of a mount; later ones win where two have one target [CTR-100]."""

    IMAGE = "image"
    VOLUMES_FROM = "volumes-from"
    BIND = "bind"
    """``-v``: one of docker's HostConfig.Binds."""
    MOUNT = "mount"
    """``--mount``: one of docker's HostConfig.Mounts."""
    TMPFS = "tmpfs"


class MountPoint(NamedTuple):
    """A mount of a container.

    Attributes:
        source: a path of the host, or the name of a volume; "" of one that is still to be made.
        text: as it was given, where one text says it all.
        mode: the options that docker shows as Mode.
        nocopy: a new volume does not get what the image has in its place.
        subpath: what of the volume is mounted.
        propagation: of a bind, one of docker's words.
        labels, options, driver: of a volume that is made for it.
        size_bytes, permissions: of a tmpfs; 0 and None leave it to the kernel.
        executable: programs in a tmpfs can be executed, which docker has to be said.
    """

    kind: str
    target: str
    source: str = ""
    readonly: bool = False
    origin: str = MountOrigin.BIND
    text: str = ""
    mode: str = ""
    nocopy: bool = False
    subpath: str = ""
    propagation: str = ""
    driver: str = ""
    labels: Mapping[str, str] = {}
    options: Mapping[str, str] = {}
    size_bytes: int = 0
    permissions: int | None = None
    executable: bool = False

    @staticmethod
    def of_json(document: Mapping[str, Any]) -> MountPoint:
        """Return the mount that `_asdict` gave *document* of; fields of other versions are left out.

        Raises:
            AttributeError, TypeError, ValueError: it is damaged.
        """
        known = {key: value for key, value in document.items() if key in MountPoint._fields}
        mount = MountPoint(**known)
        if mount.kind not in _KINDS or mount.origin not in _ORIGINS:
            raise ValueError(f"no mount: {mount.kind}, {mount.origin}")
        return mount

    def shown(self, mountpoint: str) -> dict[str, object]:
        """Return it as docker's inspect has it; *mountpoint* is the volume's [CTR-72]."""
        facts: dict[str, object] = {"Type": self.kind}
        if self.kind == MountKind.VOLUME:
            facts |= {"Name": self.source, "Source": mountpoint}
        else:
            facts |= {"Source": self.source}
        facts |= {"Destination": self.target}
        if self.kind == MountKind.VOLUME:
            facts |= {"Driver": LOCAL}
        facts |= {"Mode": self.mode, "RW": not self.readonly}
        facts |= {
            "Propagation": (self.propagation or "rprivate") if self.kind == MountKind.BIND else ""
        }
        return facts

    def step_mount(self) -> StepMount:
        """Return it for the sandbox; a volume says that itself."""
        if self.kind == MountKind.TMPFS:
            return StepMount(
                StepMountType.TMPFS,
                self.target,
                size_bytes=self.size_bytes,
                mode=self.permissions,
                noexec=not self.executable,
            )
        return StepMount(StepMountType.BIND_PATH, self.target, self.source, readonly=self.readonly)


_KINDS = (MountKind.BIND, MountKind.VOLUME, MountKind.TMPFS)
_ORIGINS = (
    *(MountOrigin.IMAGE, MountOrigin.VOLUMES_FROM, MountOrigin.BIND),
    *(MountOrigin.MOUNT, MountOrigin.TMPFS),
)


def settled(
    given: Iterable[MountPoint], others: Iterable[MountPoint], image: Sequence[str]
) -> tuple[MountPoint, ...]:
    """Return the mounts of a container: those *given*, then of *others* and the image what is free.

    A volume that was asked for by its path alone is one that may be anything: others' go before.

    Args:
        others: those of the containers of ``--volumes-from``; of two with one target, the last.
        image: the paths that its VOLUMEs name.

    Raises:
        UserError: two have one target.
    """
    mounts: dict[str, MountPoint] = {}
    for mount in given:
        if mount.target in mounts:
            raise UserError(f"Duplicate mount point: {mount.target}")
        mounts[mount.target] = mount
    free = {target for target, mount in mounts.items() if _is_any_volume(mount)}
    for mount in others:
        known = mounts.get(mount.target)
        if known is None or known.origin == MountOrigin.VOLUMES_FROM or mount.target in free:
            mounts[mount.target] = mount
    for path in image:
        target = os.path.normpath("/" + path.lstrip("/"))
        if target != "/":
            mounts.setdefault(
                target,
                MountPoint(kind=MountKind.VOLUME, target=target, origin=MountOrigin.IMAGE),
            )
    return tuple(mounts.values())


def _is_any_volume(mount: MountPoint) -> bool:
    """Return whether it is the volume of ``-v /path``."""
    return mount.kind == MountKind.VOLUME and not mount.source and mount.origin == MountOrigin.BIND


def make_source(mount: MountPoint) -> None:
    """Make the directory of a ``-v`` that is not there, as docker does [CTR-101].

    Raises:
        EnvironmentFault: it cannot be made.
    """
    if mount.origin != MountOrigin.BIND or os.path.lexists(mount.source):
        return
    try:
        os.makedirs(mount.source)
    except OSError as error:
        raise EnvironmentFault(
            f'volume "{mount.text}": cannot make {mount.source}: {(error.strerror or "").lower()}'
        ) from error
