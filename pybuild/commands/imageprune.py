"""``pybuild image prune``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pybuild.cache.space.filters import parse_moment
from pybuild.cache.space.prune import Pruned
from pybuild.cache.space.unusedimages import Removed, prune_images
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.disk import confirmed
from pybuild.commands.localstore import with_store
from pybuild.engine.host import SystemClock
from pybuild.model.amounts import human_bytes
from pybuild.model.errors import UsageError
from pybuild.model.text import boolean


def main(parsed: Parsed) -> int:
    """Remove images that nothing uses; asks first without ``--force``."""
    all, before = _choice(parsed.many("filter"), SystemClock().now(), parsed.flag("all"))
    if not confirmed(parsed, "all images that nothing uses" if all else "images without a name"):
        return 0

    def work(store: Store) -> tuple[list[Removed], Pruned]:
        return prune_images(store, all=all, before=before)

    removed, pruned = with_store(parsed, work)
    for image in removed:
        sys.stdout.write("".join(f"Untagged: {name}\n" for name in image.names))
        sys.stdout.write(f"Deleted: {image.digest}\n")
    sys.stdout.write(f"Total:\t{human_bytes(pruned.freed)}\n")
    return 0


def _choice(filters: Sequence[str], now: float, all: bool) -> tuple[bool, float | None]:
    """Return whether images with names go too, and the moment by which all must be made.

    Raises:
        UsageError: an unknown filter, or a wrong value.
    """
    before: float | None = None
    for text in filters:
        name, _, value = text.partition("=")
        match name:
            case "until":
                moment = parse_moment(value, now)
                before = moment if before is None else min(before, moment)
            case "dangling" if (dangles := boolean(value.lower())) is not None:
                all = all or not dangles
            case _:
                raise UsageError(
                    f'unknown filter "{text}"', hints=["known: until=24h, dangling=true or false"]
                )
    return all, before
