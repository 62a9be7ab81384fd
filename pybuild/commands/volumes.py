"""Commands about volumes: made, listed, shown, removed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from pybuild.arguments.values import parse_pairs
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.disk import confirmed
from pybuild.commands.images import open_store
from pybuild.commands.listing import show_list
from pybuild.commands.localstore import with_store
from pybuild.containers.choosing import has_label
from pybuild.containers.containers import Containers
from pybuild.model.amounts import short_bytes
from pybuild.model.errors import PybuildError, UsageError, UserError
from pybuild.model.gotemplate import go_json, rendered
from pybuild.model.text import boolean
from pybuild.volumes.volume import LOCAL, LocalVolume
from pybuild.volumes.volumes import Volumes

_TITLES = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Labels": "LABELS",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Links": "LINKS",
    "Size": "SIZE",
}
Chosen = Callable[[LocalVolume], bool]


def create(parsed: Parsed) -> int:
    """Make a volume and print its name."""
    name = parsed.positionals[0] if parsed.positionals else ""
    with open_store(parsed) as store:
        volume = Volumes(store).create(
            name,
            driver=parsed.one("driver"),
            options=parse_pairs(parsed.many("opt"), "option", from_environment=False),
            labels=parse_pairs(parsed.many("label"), "label", from_environment=False),
        )
    sys.stdout.write(f"{volume.name}\n")
    return 0


def ls(parsed: Parsed) -> int:
    """List volumes by name."""
    with open_store(parsed, to_read=True) as store:
        chosen = _chosen(parsed.many("filter"), Containers(store))
        volumes = [volume for volume in Volumes(store).list() if chosen(volume)]
    if parsed.flag("quiet"):
        sys.stdout.write("".join(f"{volume.name}\n" for volume in volumes))
        return 0
    rows = [_row(volume) for volume in volumes]
    show_list(parsed.one("format"), rows, _TITLES, ["Driver", "Name"], [{} for _ in rows])
    return 0


def _row(volume: LocalVolume) -> dict[str, Any]:
    return {
        "Availability": "N/A",
        "Driver": LOCAL,
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    }


def inspect(parsed: Parsed) -> int:
    """Show volumes; those that are there also where another one is not."""
    documents: list[dict[str, Any]] = []
    missing: UserError | None = None
    with open_store(parsed, to_read=True) as store:
        volumes = Volumes(store)
        for name in parsed.positionals:
            try:
                documents.append(document(volumes.find(name)))
            except UserError as error:
                missing = missing or error
    form = parsed.one("format")
    if form and form != "json":
        sys.stdout.write("".join(f"{rendered(form, one)}\n" for one in documents))
    elif form:
        sys.stdout.write(go_json(documents) + "\n")
    else:
        sys.stdout.write(json.dumps(documents, indent=4, ensure_ascii=False) + "\n")
    if missing is not None:
        raise missing
    return 0


def document(volume: LocalVolume) -> dict[str, Any]:
    """Return a volume as docker's inspect has it."""
    created = datetime.fromtimestamp(volume.created // 1_000_000_000, UTC)
    return {
        "CreatedAt": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        "Driver": LOCAL,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
    }


def rm(parsed: Parsed) -> int:
    """Remove volumes; what fails for one keeps no other from it."""
    failed: list[PybuildError] = []
    with open_store(parsed) as store:
        volumes, users = Volumes(store), Containers(store).volume_users
        for name in parsed.positionals:
            try:
                if parsed.flag("force") and not volumes.has(name):
                    sys.stdout.write(f"{name}\n")
                    continue
                volumes.remove(name, users)
                sys.stdout.write(f"{name}\n")
            except PybuildError as error:
                failed.append(error)
    if failed:
        first, *others = failed
        if others:
            rest = "; ".join(error.message for error in others)
            first = first.copy_with(message=f"{first.message}; {rest}")
        raise first
    return 0


def prune(parsed: Parsed) -> int:
    """Remove unused volumes; asks first without ``--force``."""
    filters = parsed.many("filter")
    all = parsed.flag("all") or _all(filters)
    what = "all" if all else "anonymous"
    if not confirmed(parsed, f"{what} local volumes not used by at least one container"):
        return 0
    removed, freed = with_store(
        parsed,
        lambda store: prune_volumes(
            store, all=all, filters=[text for text in filters if not text.startswith("all=")]
        ),
    )
    if removed:
        sys.stdout.write("Deleted Volumes:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    sys.stdout.write(f"Total reclaimed space: {short_bytes(freed)}\n")
    return 0


def prune_volumes(store: Store, *, all: bool, filters: Sequence[str]) -> tuple[list[str], int]:
    """Remove the volumes that no container has; return their names, and the bytes that they took.

    Args:
        all: those with names too.
        filters: labels that they have, or have not.
    """
    containers, volumes = Containers(store), Volumes(store)
    chosen = _chosen(filters, containers, {"label", "label!"})
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


def _all(filters: Sequence[str]) -> bool:
    """Return whether ``all=true`` is among the filters.

    Raises:
        UsageError: it is neither true nor false.
    """
    said = False
    for text in filters:
        name, _, value = text.partition("=")
        if name == "all":
            flag = boolean(value)
            if flag is None:
                raise UsageError(f"invalid filter 'all={value}'", hints=["true or false"])
            said = said or flag
    return said


def _chosen(
    filters: Sequence[str],
    containers: Containers,
    known: Collection[str] = frozenset(("dangling", "driver", "label", "label!", "name")),
) -> Chosen:
    """Return a test of volumes by ``--filter``: one value of a name must fit, but all labels.

    Raises:
        UsageError: an unknown one.
    """
    values: dict[str, list[str]] = {}
    for text in filters:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise UsageError(
                f"invalid filter '{name}'", hints=[f"known: {', '.join(sorted(known))}"]
            )
        values.setdefault(name, []).append(value)
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
