"""``pybuild system df`` and ``pybuild info``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pybuild.cache.content.images import reach
from pybuild.cache.space.usage import CACHE_MOUNT, UsageRecord, overhead, usage
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import with_store
from pybuild.containers.containers import Containers
from pybuild.engine.host import SystemClock, native_platform
from pybuild.engine.settings import load_settings
from pybuild.model.amounts import human_bytes, short_bytes
from pybuild.model.gotemplate import go_json, rendered
from pybuild.model.listing import show_list
from pybuild.model.package import VERSION
from pybuild.volumes.volumes import Volumes

_TITLES = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def df(parsed: Parsed) -> int:
    """Sum up what `du` lists, by its kinds; what a living process needs is *active*."""
    rows = with_store(parsed, _sums, to_read=True)
    exact = ({"type": row["Type"]} for row in rows)
    show_list(parsed.one("format"), rows, _TITLES, list(_TITLES), exact)
    return 0


def _sums(store: Store) -> list[dict[str, str]]:
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


def info(parsed: Parsed) -> int:
    """Show facts by docker's names for them."""
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    machine, images, containers = os.uname(), 0, 0
    if os.path.isdir(settings.root):
        with Store.open(settings.root, SystemClock(), to_read=True) as store:
            images = len(store.images.list())
            containers = len(Containers(store).list())
    facts: dict[str, Any] = {
        "Architecture": machine.machine,
        "Containers": containers,
        "DockerRootDir": settings.root,
        "Driver": "overlayfs",
        "Images": images,
        "KernelVersion": machine.release,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "NCPU": os.cpu_count() or 1,
        "Name": machine.nodename,
        "OSType": native_platform().os,
        "OperatingSystem": _operating_system(),
        "ServerVersion": VERSION,
    }
    form = parsed.one("format")
    if form:
        text = go_json(facts) if form == "json" else rendered(form, facts)
        sys.stdout.write(f"{text}\n")
        return 0
    shown = {**facts, "MemTotal": human_bytes(facts["MemTotal"])}
    sys.stdout.write("".join(f"{_words(key)}: {value}\n" for key, value in shown.items()))
    sys.stdout.write('"pybuild doctor" shows what this machine offers to steps.\n')
    return 0


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


def _words(name: str) -> str:
    spelled = {"DockerRootDir": "Root Dir", "MemTotal": "Total Memory", "NCPU": "CPUs"}
    text = spelled.get(name, name).replace("OSType", "OS Type")
    return "".join(
        f" {c}" if c.isupper() and i and text[i - 1].islower() else c for i, c in enumerate(text)
    )
