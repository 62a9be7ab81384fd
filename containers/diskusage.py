"""The shares of the disk, in docker's words: images, containers, volumes, and what builds keep."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from pybuild.cache.content.images import reach
from pybuild.cache.space.usage import CACHE_MOUNT, UsageRecord, overhead, usage
from pybuild.cache.store import Store
from pybuild.containers.containers import Containers
from pybuild.model.amounts import short_bytes
from pybuild.volumes.volumes import Volumes


def disk_usage(store: Store) -> list[dict[str, str]]:
    images = [descriptor.digest for _, descriptor in store.images.list()]
    used = store.leases.held()
    active = sum(("blob", digest) in used for digest in images)
    parts: set[str] = set()
    reach(store.blobs, images, parts)
    kinds: dict[str, list[UsageRecord]] = {"Images": [], "Build Cache": [], "Cache Mounts": []}
    kept = [_containers(store), _volumes(store)]
    own = overhead(store)
    places = (os.path.join(store.root, name) for name in ("containers", "volumes"))
    own = replace(own, size=max(0, own.size - sum(store.measure(p).size for p in places)))
    for record in [*usage(store), own]:
        is_image = record.kind == "blob" and record.id in parts
        is_mount = record.type == CACHE_MOUNT
        kinds["Images" if is_image else "Cache Mounts" if is_mount else "Build Cache"].append(
            record
        )
    counts = {"Images": (len(images), active)}
    sums = [_sum(kind, records, counts.get(kind)) for kind, records in kinds.items()]
    return [sums[0], *kept, *sums[1:]]


def _containers(store: Store) -> dict[str, str]:
    """Return the row of what containers wrote; those that do not run can go."""
    known = Containers(store)
    sizes = [(one.is_running, known.sizes(one)[0]) for one in known.list()]
    return _row("Containers", sizes)


def _volumes(store: Store) -> dict[str, str]:
    """Return the row of volumes; those that no container has can go."""
    known, used = Volumes(store), Containers(store).used_volumes()
    return _row("Local Volumes", [(one.name in used, known.size(one)) for one in known.list()])


def _row(kind: str, sizes: Sequence[tuple[bool, int]]) -> dict[str, str]:
    """Return docker's row of things that are active or not, and their sizes."""
    total, free = sum(size for _, size in sizes), sum(size for used, size in sizes if not used)
    share = f" ({100 * free // total}%)" if total else ""
    return {
        "Active": str(sum(used for used, _ in sizes)),
        "Reclaimable": short_bytes(free) + share,
        "Size": short_bytes(total),
        "TotalCount": str(len(sizes)),
        "Type": kind,
    }


def _sum(
    kind: str, records: Sequence[UsageRecord], counts: tuple[int, int] | None
) -> dict[str, str]:
    total, active = counts or (len(records), sum(record.in_use for record in records))
    size = sum(record.size for record in records)
    free = sum(r.size for r in records if not r.in_use and (kind == "Images" or r.reclaimable))
    share = f" ({100 * free // size}%)" if size else ""
    return {
        "Active": str(active),
        "Reclaimable": short_bytes(free) + share,
        "Size": short_bytes(size),
        "TotalCount": str(total),
        "Type": kind,
    }
