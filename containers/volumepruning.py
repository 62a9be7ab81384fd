"""Volumes by filters, and the removal of those that no container has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pybuild.cache.store import Store
from pybuild.containers.choosing import has_label
from pybuild.containers.containers import Containers
from pybuild.model.errors import UsageError, UserError
from pybuild.model.filtertext import filter_values
from pybuild.model.text import boolean
from pybuild.volumes.mountpoint import LOCAL
from pybuild.volumes.volume import LocalVolume
from pybuild.volumes.volumes import Volumes

Chosen = Callable[[LocalVolume], bool]


def prune_volumes(store: Store, *, all: bool, filters: Sequence[str]) -> tuple[list[str], int]:
    """Remove the volumes that no container has; return their names, and the bytes that they took.

    Args:
        all: those with names too.
        filters: labels that they have, or have not.
    """
    containers, volumes = Containers(store), Volumes(store)
    chosen = volume_choice(filters, containers, {"label", "label!"})
    removed: list[str] = []
    freed = 0
    for volume in volumes.list():
        if volume.options or not (all or volume.is_anonymous) or not chosen(volume):
            continue
        try:
            size = volumes.size(volume)
            volumes.remove(volume.name, containers.volume_users)
        except UserError:
            continue  # a container has it, or it is gone
        removed.append(volume.name)
        freed += size
    return removed, freed


def includes_all(filters: Sequence[str]) -> bool:
    """Return whether ``all=true`` is among the filters.

    Raises:
        UsageError: it is neither true nor false.
    """
    flags = [_flag("all", value) for value in filter_values(filters).get("all", ())]
    return any(flags)


def volume_choice(
    filters: Sequence[str],
    containers: Containers,
    known: Collection[str] = frozenset(("dangling", "driver", "label", "label!", "name")),
) -> Chosen:
    """Return a test of volumes by ``--filter``: one value of a name must fit, but all labels.

    Raises:
        UsageError: an unknown one.
    """
    values = filter_values(filters, known)
    dangling = [_flag("dangling", value) for value in values.get("dangling", ())]
    used: Collection[str] = containers.used_volumes() if dangling else frozenset()

    def fits(volume: LocalVolume) -> bool:
        return (
            all(has_label(volume.labels, label) for label in values.get("label", ()))
            and not any(has_label(volume.labels, label) for label in values.get("label!", ()))
            and ("driver" not in values or LOCAL in values["driver"])
            and ("name" not in values or any(name in volume.name for name in values["name"]))
            and (not dangling or (volume.name not in used) in dangling)
        )

    return fits


def _flag(name: str, value: str) -> bool:
    flag = boolean(value)
    if flag is None:
        raise UsageError(f"invalid filter '{name}={value}'", hints=["true or false"])
    return flag
