"""Commands about volumes: made, listed, shown, removed."""

from __future__ import annotations

import sys

from pybuild.arguments.values import parse_pairs
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store, with_store
from pybuild.commands.several import confirmed, for_each, show_documents, show_removed
from pybuild.containers.containers import Containers
from pybuild.containers.volumepruning import includes_all, prune_volumes, volume_choice
from pybuild.model.columns import VOLUMES, VOLUMES_SHOWN
from pybuild.model.listing import list_text
from pybuild.volumes.listing import document, row_of
from pybuild.volumes.volumes import Volumes


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
        chosen = volume_choice(parsed.many("filter"), Containers(store))
        volumes = [volume for volume in Volumes(store).list() if chosen(volume)]
    if parsed.flag("quiet"):
        sys.stdout.write("".join(f"{volume.name}\n" for volume in volumes))
        return 0
    rows = [row_of(volume) for volume in volumes]
    sys.stdout.write(list_text(parsed.one("format"), rows, VOLUMES, VOLUMES_SHOWN))
    return 0


def inspect(parsed: Parsed) -> int:
    """Show volumes; those that are there also where another one is not."""
    with open_store(parsed, to_read=True) as store:
        volumes = Volumes(store)
        return show_documents(
            parsed.one("format"), parsed.positionals, lambda name: document(volumes.find(name))
        )


def rm(parsed: Parsed) -> int:
    """Remove volumes; what fails for one keeps no other from it."""
    with open_store(parsed) as store:
        volumes, users = Volumes(store), Containers(store).volume_users

        def remove(name: str) -> None:
            if volumes.has(name) or not parsed.flag("force"):
                volumes.remove(name, users)

        return for_each(parsed.positionals, remove)


def prune(parsed: Parsed) -> int:
    """Remove unused volumes; asks first without ``--force``."""
    filters = parsed.many("filter")
    all = parsed.flag("all") or includes_all(filters)
    what = "all" if all else "anonymous"
    if not confirmed(parsed, f"{what} local volumes not used by at least one container"):
        return 0
    removed, freed = with_store(
        parsed,
        lambda store: prune_volumes(
            store, all=all, filters=[text for text in filters if not text.startswith("all=")]
        ),
    )
    return show_removed("Deleted Volumes:", removed, freed)
