"""The mounts that somebody wants of a container, with those of other containers and its image's [CTR-100]."""

from __future__ import annotations

from pybuild.model.border import NamedTuple
from pybuild.volumes.mountpoint import MountKind, MountOrigin, settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.cache.store import Store
    from pybuild.volumes.mountpoint import MountPoint


class GivenMounts(NamedTuple):
    """The mounts that somebody wants: their own, and those of other containers by ``NAME[:ro]``."""

    own: Sequence[MountPoint] = ()
    others: Sequence[str] = ()


def all_mounts(store: Store, given: GivenMounts, image: Sequence[str]) -> Sequence[MountPoint]:
    """Return the mounts of a container that is being made; its volumes may have to come to be.

    Args:
        image: the places where the image has volumes.

    Raises:
        UserError, UsageError: a wrong option, or what it names is not there.
    """
    return settled(given.own, list(_of_others(store, given.others)), image)


def _of_others(store: Store, texts: Iterable[str]) -> Iterable[MountPoint]:
    """Return the mounts of other containers, which this one is to have, too."""
    mounts: list[MountPoint] = []
    for text in texts:
        from pybuild.containers.containers import Containers
        from pybuild.volumes.reading import read_volumes_from

        name, readonly = read_volumes_from(text)
        for mount in Containers(store).find(name).config.mounts:
            if mount.kind != MountKind.TMPFS:
                ours = mount._replace(origin=MountOrigin.VOLUMES_FROM, text=text)
                mounts.append(ours if readonly is None else ours._replace(readonly=readonly))
    return mounts
