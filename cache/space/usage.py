"""Usage: the space of each thing in the store, and who needs it: ``pybuild du`` [CMD-3, GC-1]."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from pybuild.cache.content.cachemounts import look
from pybuild.cache.content.origins import Origin
from pybuild.cache.records.layers import LAYER
from pybuild.cache.records.results import RESULT
from pybuild.cache.space.mark import IMAGE, Holder, Mark, Name, mark
from pybuild.cache.space.sizes import delta_size
from pybuild.cache.store import Store
from pybuild.model.amounts import human_age
from pybuild.model.dataclass import dataclass
from pybuild.model.jsontext import as_number

REGULAR = "regular"
CONTENT = "content"
CACHE_MOUNT = "exec.cachemount"
CONTEXT = "source.local"
FRONTEND = "frontend"
INTERNAL = "internal"
TYPES = frozenset(
    {REGULAR, CONTENT, CACHE_MOUNT, FRONTEND, INTERNAL, CONTEXT, "source.git.checkout"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One thing that takes space.

    Attributes:
        kind: "delta", "blob", "mount", "memo", "context", "damaged", "record" (of what is not
            here), or "store" (what it needs for itself).
        id: its name within the kind.
        size: bytes on the disk; 0 if it cannot be looked into.
        created, last_used: seconds since the epoch; last_used is never in the future.
        in_use: a living process needs it; it cannot be freed.
        shared: an image needs it, or more than one record.
        pinned: an image needs it; it cannot be freed.
        last_of: pinned, but only for the last results of these, which have no name: where a ceiling
            leaves no room for all of them, the oldest go.
        mutable: it changes in place, as cache mounts do.
        parents: ids of the deltas directly below.
        records: the records that name it, and so must go before it.
        seconds: the time that making it took, all in all; 0 if not known.
    """

    kind: str
    id: str
    type: str
    size: int
    created: float = 0.0
    last_used: float = 0.0
    use_count: int = 0
    in_use: bool = False
    shared: bool = False
    pinned: bool = False
    last_of: tuple[Origin, ...] = ()
    mutable: bool = False
    description: str = ""
    parents: tuple[str, ...] = ()
    records: tuple[Name, ...] = ()
    seconds: float = 0.0

    @property
    def reclaimable(self) -> bool:
        return not self.in_use and not self.pinned


def usage(store: Store, marked: Mark | None = None) -> list[UsageRecord]:
    """List everything that takes space, by kind and id.

    Measures each delta once and remembers it beside the delta; this is the slow part, and needs
    the privileges of its files' owner. Images' own blobs are listed too, as *pinned*.

    Raises:
        EnvironmentFault: images, leases or records cannot be read.
    """
    marked = marked or mark(store)
    now = store.clock.now()
    records = [
        *_deltas(store, marked, now),
        *_blobs(store, marked, now),
        *_folders(store, marked, now),
        *_absent(store, marked, now),
    ]
    return sorted(records, key=lambda record: (record.kind, record.id))


def _deltas(store: Store, marked: Mark, now: float) -> list[UsageRecord]:
    created = {id: as_number(store.deltas.meta(id).get("created")) for id in store.deltas.ids()}
    latest, parents = _stacked(marked, created)
    records: list[UsageRecord] = []
    for id, made in created.items():
        holders = marked.by_delta.get(id, [])
        results = [holder for holder in holders if holder.name[0] == RESULT]
        records.append(
            UsageRecord(
                kind="delta",
                id=id,
                type=REGULAR,
                size=delta_size(store, id),
                created=made,
                last_used=_last_used(holders, latest.get(id, made), now),
                use_count=sum(holder.use_count for holder in holders),
                in_use=("delta", id) in marked.leased,
                shared=len(results) > 1,
                description=_description(holders, id),
                parents=tuple(sorted(parents.get(id, ()))),
                records=_names(holders),
                # It was made by the step whose tree it is on top of.
                seconds=max((r.seconds for r in results if r.deltas[-1] == id), default=0.0),
            )
        )
    return records


def _stacked(
    marked: Mark, created: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, set[str]]]:
    """Return when the latest delta on each was made, itself among them, and those directly below it.

    Making what lies on a delta was a use of it, so it never looks older than that. Each result is gone
    through once: a tree of many layers has as many results below it.
    """
    latest, parents = dict[str, float](), dict[str, set[str]]()
    for (kind, _), holder in marked.holders.items():
        if kind != RESULT:
            continue
        at = 0.0
        for id, below in zip(holder.deltas[::-1], (*holder.deltas[-2::-1], ""), strict=False):
            at = max(at, created.get(id, 0.0))
            latest[id] = max(at, latest.get(id, at))
            if below:
                parents.setdefault(id, set()).add(below)
    return latest, parents


def _blobs(store: Store, marked: Mark, now: float) -> list[UsageRecord]:
    records: list[UsageRecord] = []
    for digest, status in store.blobs.list():
        holders = marked.by_blob.get(digest, [])
        pinned = digest in marked.image_blobs
        last_of = () if pinned else tuple(sorted(marked.last_results.get(digest, ())))
        # A lazily pulled layer is in the store by its blob alone: its results go with it.
        lazy = [
            result
            for holder in holders
            if holder.name[0] == LAYER and not store.deltas.has(holder.name[1])
            for result in marked.by_delta.get(holder.name[1], [])
        ]
        needing = list({holder.name: holder for holder in [*holders, *lazy]}.values())
        leased = ("blob", digest) in marked.leased or any(
            ("delta", id) in marked.leased for holder in lazy for id in holder.deltas
        )
        records.append(
            UsageRecord(
                kind="blob",
                id=digest,
                type=CONTENT,
                size=status.st_blocks * 512,
                created=status.st_mtime,
                last_used=_last_used(needing, min(status.st_mtime, now), now),
                use_count=sum(holder.use_count for holder in needing),
                in_use=leased,
                shared=pinned or len(needing) > 1,
                # What explains a result goes after the result, not the result for its sake.
                pinned=pinned
                or bool(last_of)
                or any(holder.name[0] == RESULT for holder in holders),
                last_of=last_of,
                description=_description(
                    [holder for holder in needing if not (pinned and holder.name[0] == IMAGE)],
                    "part of an image" if pinned else "",
                ),
                records=_names(needing),
            )
        )
    return records


def _folders(store: Store, marked: Mark, now: float) -> list[UsageRecord]:
    """List cache mounts, memos, directories of clients and databases that were moved aside."""
    records: list[UsageRecord] = []
    places = (
        ("mount", CACHE_MOUNT, store.mounts_dir),
        ("memo", FRONTEND, store.memo_dir),
        ("context", CONTEXT, store.contexts_dir),
    )
    for kind, type, folder in places:
        if kind == "context" and not os.path.isdir(folder):
            continue
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            holder = marked.holders.get((kind, entry.name))
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            changed = min(status.st_mtime, now)
            described = ""
            if kind == "mount":
                mount = look(store, entry.name, set())
                changed = mount.last_used or changed
                described = mount.id and f"cache mount {mount.id}"
            records.append(
                UsageRecord(
                    kind=kind,
                    id=entry.name,
                    type=type,
                    size=store.measure(entry.path).size,
                    created=holder.created if holder else changed,
                    last_used=_last_used([holder] if holder else [], changed, now),
                    in_use=(kind, entry.name) in marked.leased,
                    use_count=holder.use_count if holder else 0,
                    mutable=kind in ("mount", "context"),
                    description=holder.description if holder else described,
                    records=_names([holder] if holder else []),
                )
            )
    for name in sorted(os.listdir(store.root)):
        if name.startswith("records.damaged-"):
            size = store.measure(os.path.join(store.root, name)).size
            records.append(
                UsageRecord(
                    kind="damaged", id=name, type=INTERNAL, size=size, description="damaged records"
                )
            )
    return records


def overhead(store: Store) -> UsageRecord:
    """Return the store's own need: records, names, locks, and the space that it keeps free.

    No part of `usage`, as no policy is about it.
    """
    counted = ("blobs", "contexts", "memo", "mounts", "snapshots", "tmp")
    names = [name for name in os.listdir(store.root) if name not in counted]
    return UsageRecord(
        kind="store",
        id="store",
        type=INTERNAL,
        size=sum(
            store.measure(os.path.join(store.root, name)).size
            for name in names
            if not name.startswith("records.damaged-")
        ),
        pinned=True,
        description="records, names and locks of the store",
    )


def _absent(store: Store, marked: Mark, now: float) -> list[UsageRecord]:
    """List results none of whose deltas are here: they cost nothing, but age like others."""
    here = set(store.deltas.ids())
    records: list[UsageRecord] = []
    for name, holder in sorted(marked.holders.items()):
        if name[0] != RESULT or not here.isdisjoint(holder.deltas):
            continue
        records.append(
            UsageRecord(
                kind="record",
                id=name[1],
                type=REGULAR,
                size=0,
                created=holder.created,
                last_used=_last_used([holder], holder.created, now),
                use_count=holder.use_count,
                in_use=any(("delta", id) in marked.leased for id in holder.deltas),
                description=holder.description,
                records=(name,),
            )
        )
    return records


def _last_used(holders: Sequence[Holder], otherwise: float, now: float) -> float:
    """Return the latest use; a clock that was wrong must not pin things for years."""
    return min(max([otherwise, *(holder.last_used for holder in holders)]), now)


def _description(holders: Sequence[Holder], otherwise: str) -> str:
    # The shortest stack first: it names the vertex that made the delta, not those built on it.
    named = [h for h in holders if h.description]
    if not named:
        return otherwise
    first = min(named, key=lambda h: (len(h.deltas) or 1 << 30, h.created, h.name))
    return first.description


def _names(holders: Sequence[Holder]) -> tuple[Name, ...]:
    return tuple(sorted({holder.name for holder in holders}))


def since(moment: float) -> str:
    """Return ``3 days ago``; nothing for 0."""
    return human_age(time.time() - moment) if moment else ""


def usage_document(record: UsageRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "kind": record.kind,
        "type": record.type,
        "size": record.size,
        "created": record.created,
        "last_used": record.last_used,
        "use_count": record.use_count,
        "in_use": record.in_use,
        "shared": record.shared,
        "mutable": record.mutable,
        "reclaimable": record.reclaimable,
        "parents": list(record.parents),
        "description": record.description,
    }
