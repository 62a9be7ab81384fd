"""Why a thing of the store is kept, and what would free it: ``pybuild why-kept``."""

from __future__ import annotations

import os

from pybuild.cache.content.images import reach
from pybuild.cache.content.origins import shown
from pybuild.cache.space.mark import mark
from pybuild.cache.space.usage import UsageRecord, usage
from pybuild.cache.space.value import by_value, value
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

_CONTAINER = "container-"
"""Before its id: the name of the lease that a container has as long as it is there."""
_SHORT_ID = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The reasons that one thing is kept.

    Attributes:
        images: names, or digests, of images that need it.
        last_of: the contexts whose last result they are, if that alone keeps it.
        processes: ids of living processes whose builds use it.
        containers: ids of the containers that lie on it, running or not.
        children: ids of the deltas that lie directly on it, and go before it.
        value: seconds of work for each of its bytes and each second of its age.
        place: how many things that can go would go before it; None: it cannot go.
        way_out: the command that would free it.
    """

    record: UsageRecord
    images: tuple[str, ...]
    last_of: tuple[str, ...]
    processes: tuple[int, ...]
    containers: tuple[str, ...] = ()
    children: tuple[str, ...]
    value: float
    place: int | None
    way_out: str


def why_kept(store: Store, text: str) -> list[Kept]:
    """Return the reasons for the thing whose id begins with *text*, or for the parts of the image *text*.

    Raises:
        UserError: there is no such thing, or several. EnvironmentFault: the store cannot be read.
    """
    marked = mark(store)
    records = usage(store, marked)
    image = store.images.resolve(text)
    if image is not None:
        reached = _reached(store, image.digest)
        chosen = [record for record in records if record.id in reached]
    else:
        chosen = _by_id(records, text)
    return [_explained(store, records, record) for record in chosen]


def _by_id(records: list[UsageRecord], text: str) -> list[UsageRecord]:
    exact = [record for record in records if record.id == text]
    if exact:
        return exact
    start = text.removeprefix("sha256:")
    matches = [r for r in records if len(start) >= 4 and _short(r.id).startswith(start)]
    if len(matches) == 1:
        return matches
    if not matches:
        raise UserError(
            f'the store holds nothing called "{text}"', hints=("pybuild du lists what there is",)
        )
    several = ", ".join(_short(record.id)[:16] for record in matches[:5])
    raise UserError(f'"{text}" may be any of {several}')


def _short(id: str) -> str:
    return id.removeprefix("sha256:").removeprefix("sha256-")


def _reached(store: Store, digest: str) -> set[str]:
    reached: set[str] = set()
    reach(store.blobs, [digest], reached)
    return reached


def _explained(store: Store, records: list[UsageRecord], record: UsageRecord) -> Kept:
    now = store.clock.now()
    images = _images(store, record) if record.kind == "blob" else ()
    last_of = tuple(map(shown, record.last_of))
    processes = store.leases.holders(record.kind, record.id) if record.in_use else ()
    containers = _containers(store, record) if record.in_use else ()
    order = by_value([r for r in records if r.reclaimable], now)
    place = order.index(record) if record.reclaimable else None
    return Kept(
        record=record,
        images=images,
        last_of=last_of,
        processes=processes,
        containers=containers,
        children=tuple(r.id for r in records if record.id in r.parents),
        value=value(record, now),
        place=place,
        way_out=_way_out(record, images, last_of, processes, containers),
    )


def _containers(store: Store, record: UsageRecord) -> tuple[str, ...]:
    names = store.leases.lasting(record.kind, record.id)
    return tuple(name.removeprefix(_CONTAINER) for name in names if name.startswith(_CONTAINER))


def _images(store: Store, record: UsageRecord) -> tuple[str, ...]:
    return tuple(
        sorted(
            name
            for names, image in store.images.list()
            if record.id in _reached(store, image.digest)
            for name in (names or (image.digest,))
        )
    )


def _way_out(
    record: UsageRecord,
    images: tuple[str, ...],
    last_of: tuple[str, ...],
    processes: tuple[int, ...],
    containers: tuple[str, ...],
) -> str:
    if images and record.pinned:
        named = tuple(name for name in images if not name.startswith("sha256:"))
        by_hand = f"pybuild rmi {' '.join(named or images)}, then pybuild prune"
        return f"{by_hand}; or the next build of {' and of '.join(last_of)}" if last_of else by_hand
    if containers and not processes:
        ids = " ".join(id[:_SHORT_ID] for id in containers)
        return f"pybuild rm {ids}, then pybuild prune"
    if record.in_use:
        pids = ", ".join(map(str, processes)) or "a process elsewhere"
        return f"it goes when the build of {pids} has ended and nothing else needs it"
    if record.pinned:
        return "pybuild prune, when the results that it explains are gone"
    if record.type in ("internal", "frontend"):
        return "pybuild prune --all"
    return f"pybuild prune --filter id={record.id}"


def command_of(pid: int) -> str:
    """Return the command line of a process of this machine; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read(400).replace(b"\0", b" ")).strip()
    except OSError:
        return ""
