"""Freeing space: ``pybuild prune`` and the limits that hold during builds [CMD-4, GC-1..6].

Mark and sweep. The order of every removal is: look under the collection lock that nothing changed
and nobody leased it, delete the records that name it, then rename it into ``tmp/``. So a record
never points at something absent, and a process that leases and then looks is never deceived.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import field

from pybuild.cache.disk.atomic import fault, faults
from pybuild.cache.space.filters import parse_filters
from pybuild.cache.space.mark import IMAGE, Mark, Name, drop_images, mark, state_of
from pybuild.cache.space.usage import FRONTEND, INTERNAL, UsageRecord, usage
from pybuild.cache.space.value import by_value
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError

Choose = Callable[[Sequence[UsageRecord]], list[UsageRecord]]

# Removals under one hold of the lock: builds wait for it a few milliseconds.
_BATCH = 16
# Marks that a busy store may make stale before we mark while holding the lock.
_PATIENCE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One rule of what to free [GC-2].

    Attributes:
        filters: as people write them, see `filters.parse_filters`; all must hold.
        keep_duration_s: spare what was used that recently.
        reserved_space: bytes that the cache may always keep.
        max_used_space: free until the cache takes no more; min_free_space: until the disk has as
            much free. With neither, everything that matches goes, down to *reserved_space*.
        all: also what the builder keeps for itself (types internal and frontend).
        by_others: a client has written the filters.
    """

    filters: tuple[str, ...] = ()
    keep_duration_s: float | None = None
    reserved_space: int = 0
    max_used_space: int | None = None
    min_free_space: int | None = None
    all: bool = False
    by_others: bool = False


@dataclass(slots=True)
class Pruned:
    """The records that were freed, in order; *freed* is the gain of the disk in bytes.

    *waiting*: those that were taken away and are still to be deleted.
    """

    records: list[UsageRecord] = field(default_factory=list[UsageRecord])
    freed: int = 0
    waiting: list[str] = field(default_factory=list[str])


def default_policies(store: Store) -> list[Policy]:
    """Return the rules for a builder that was told nothing [GC-3]."""
    disk = os.statvfs(store.root)
    size = disk.f_blocks * disk.f_frsize
    cap = min(size * 8 // 10, 100 * 1000**3)
    reserved = min(size // 10, 10 * 1000**3)
    free = size // 5

    def capped(keep_duration_s: float | None = None, all: bool = False) -> Policy:
        return Policy(
            keep_duration_s=keep_duration_s,
            max_used_space=cap,
            min_free_space=free,
            reserved_space=reserved,
            all=all,
        )

    return [
        Policy(
            filters=("type~=^(source\\..*|exec\\.cachemount)$",),
            keep_duration_s=48 * 3600.0,
            max_used_space=512 * 1000**2,
        ),
        capped(60 * 86400.0),
        capped(),
        capped(all=True),
    ]


def prune(
    store: Store,
    policy: Policy | None = None,
    progress: Callable[[UsageRecord], None] = lambda record: None,
) -> Pruned:
    """Free what *policy* says: by default, all that no image and no living process needs.

    Args:
        progress: called with each thing right after it is gone.

    Raises:
        UsageError: a filter is wrong. EnvironmentFault: the store cannot be read or changed.
    """
    rule = policy or Policy()
    store.drop_ballast()
    try:
        pruned = sweep(store, lambda records: choose(store, rule, records), progress)
        store.records.shrink()
        return pruned
    finally:
        store.hold_ballast()


def sweep(
    store: Store,
    choose: Choose,
    progress: Callable[[UsageRecord], None] = lambda record: None,
) -> Pruned:
    """Free what *choose* picks from all that is there, until it picks nothing.

    On return it is deleted and not only out of the way, as far as nobody has its files open.

    Raises:
        EnvironmentFault: the store cannot be read or changed.
    """
    pruned = Pruned()
    before = -1
    while True:
        try:
            _prune(store, choose, pruned, progress)
            return pruned
        except OSError as error:
            raise fault(error, "cannot prune", store.root) from error
        except PybuildError as error:
            _delete(store, pruned)
            # On a full disk what was moved away must really go before the rest can.
            cause = error.__cause__
            full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
            full = full or "is full" in str(cause)
            if not full or len(pruned.records) == before:
                raise
            before = len(pruned.records)
            wait_until_freed(store)


def _prune(
    store: Store, choose: Choose, pruned: Pruned, progress: Callable[[UsageRecord], None]
) -> None:
    stale = 0
    while True:
        if stale < _PATIENCE:
            marked = mark(store)
            plan = choose(usage(store, marked))
            done = _sweep(store, marked, plan, pruned, progress)
        else:
            with store.leases.collecting():
                marked = mark(store)
                plan = choose(usage(store, marked))[:_BATCH]
                removed: set[Name] = set()
                _remove_all(store, marked, plan, removed, pruned, progress)
            _delete(store, pruned)
            done = True
        if not done:
            stale += 1
        elif not plan:
            # What went may have been the last that held something else: so again, until nothing.
            _tidy(store)
            return


def collect(store: Store, policies: Sequence[Policy]) -> Pruned:
    """Apply rules in order, as after a build [GC-5]."""
    total = Pruned()
    for policy in policies:
        part = prune(store, policy)
        total.records += part.records
        total.freed += part.freed
    return total


def choose(store: Store, policy: Policy, records: Sequence[UsageRecord]) -> list[UsageRecord]:
    """Return the records to free, in order. Pure but for the disk's free space.

    The least valuable first (`value`); what others lie on comes after them [GC-4].
    """
    now = store.clock.now()
    matches, names_internal = parse_filters(policy.filters, now, by_others=policy.by_others)
    candidates = [
        record
        for record in records
        if record.reclaimable
        and (policy.all or names_internal or record.type not in (INTERNAL, FRONTEND))
        and (policy.keep_duration_s is None or now - record.last_used >= policy.keep_duration_s)
        and matches(record)
    ]
    used = sum(record.size for record in records if not record.pinned)
    limited = policy.max_used_space is not None or policy.min_free_space is not None
    if not limited and not policy.reserved_space:
        return by_value(candidates, now)
    keep = used if limited else policy.reserved_space
    if policy.max_used_space is not None:
        keep = min(keep, policy.max_used_space)
    if policy.min_free_space is not None:
        disk = os.statvfs(store.root)
        keep = min(keep, used - (policy.min_free_space - disk.f_bavail * disk.f_frsize))
    keep = max(keep, policy.reserved_space)
    chosen: list[UsageRecord] = []
    for record in by_value(candidates, now):
        if used <= keep:
            break
        chosen.append(record)
        used -= record.size
    return chosen


def _sweep(
    store: Store,
    marked: Mark,
    plan: Sequence[UsageRecord],
    pruned: Pruned,
    progress: Callable[[UsageRecord], None],
) -> bool:
    """Remove *plan* as long as *marked* holds; tell whether it held to the end."""
    removed: set[Name] = set()
    for start in range(0, len(plan), _BATCH):
        with store.leases.collecting():
            if state_of(store) != marked.state:
                return False
            held = store.leases.held()
            if held - marked.leased:
                return False
            batch = plan[start : start + _BATCH]
            _remove_all(store, marked, batch, removed, pruned, progress)
        _delete(store, pruned)
    return True


def _delete(store: Store, pruned: Pruned) -> None:
    """Delete what was taken away, now that nobody waits for us."""
    while pruned.waiting:
        pruned.freed += store.tmp.delete(pruned.waiting.pop())


def _remove_all(
    store: Store,
    marked: Mark,
    batch: Sequence[UsageRecord],
    removed: set[Name],
    pruned: Pruned,
    progress: Callable[[UsageRecord], None],
) -> None:
    """Remove what a batch is about, images without names first, all by one change of the index."""
    images = {name for record in batch for name in record.records if name[0] == IMAGE} - removed
    if images:
        drop_images(store, marked, {digest for _, digest in images})
        removed |= images
    for record in batch:
        _remove(store, record, removed, pruned, progress)


def _remove(
    store: Store,
    record: UsageRecord,
    removed: set[Name],
    pruned: Pruned,
    progress: Callable[[UsageRecord], None],
) -> None:
    """Remove one thing, records first; the caller holds the collection lock.

    It is out of the way then, and deleted when the lock is given up.
    *removed*: records deleted since the mark, so that none is deleted once per delta it names.
    """
    taken: str | None = None
    for name in record.records:
        if name not in removed:
            store.records.delete(*name)
            removed.add(name)
    if record.kind == "delta":
        taken = store.deltas.take_away(record.id)
    elif record.kind == "blob":
        pruned.freed += store.blobs.delete(record.id)
    elif record.kind != "record":
        folders = {
            "mount": store.mounts_dir,
            "memo": store.memo_dir,
            "context": store.contexts_dir,
        }
        path = os.path.join(folders.get(record.kind, store.root), record.id)
        with faults(f"cannot remove {path}", store.root):
            taken = store.tmp.take_away(path)
    if taken is not None:
        pruned.waiting.append(taken)
    pruned.records.append(record)
    progress(record)


def _tidy(store: Store) -> None:
    """Delete the records that were about things now gone; if others are busy, the next time."""
    marked = mark(store)
    with store.leases.collecting():
        if state_of(store) == marked.state and not store.leases.held() - marked.leased:
            for kind, key in marked.leftover:
                if kind != IMAGE:
                    store.records.delete(kind, key)
            images = {key for kind, key in marked.leftover if kind == IMAGE}
            if images:
                store.images.drop(images)


def wait_until_freed(store: Store) -> None:
    """Delete now, in this thread, what `prune` moved out of the way."""
    try:
        store.tmp.sweep()
    except OSError as error:
        raise fault(error, "cannot empty tmp/", store.root) from error
