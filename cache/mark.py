"""What is in the store and what holds it: images, leases, records [STO-1, GC-4].

Marking reads; it decides nothing and frees nothing. `usage` turns a mark into a list for people,
`prune` sweeps by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field
from typing import Any

from pybuild.cache.images import reach
from pybuild.cache.imported import LAYER
from pybuild.cache.inputs import INPUTS, LISTING
from pybuild.cache.jsontext import as_list, as_number, as_object
from pybuild.cache.patches import COPIED, with_wholes
from pybuild.cache.results import ALIAS, PUSHED, RESULT, SECONDS, USE
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z|sha512:[0-9a-f]{128}\Z")

Name = tuple[str, str]


@dataclass(slots=True)
class Holder:
    """A record as far as freeing is concerned.

    Attributes:
        name: kind and key in `Records`.
        deltas, blobs: what it names, and what patches among it change; there or not.
        seconds: how long it takes to make again; 0 where nobody knows.
    """

    name: Name
    deltas: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    description: str = ""
    created: float = 0.0
    last_used: float = 0.0
    use_count: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Mark:
    """One look at the store.

    Attributes:
        state: equal states mean that no image and no record changed between two marks.
        image_blobs: what index.json reaches and what the registry links; never freed.
        by_delta, by_blob: the holders of each.
        leftover: housekeeping records whose subject is gone.
    """

    state: object
    leased: set[Name]
    image_blobs: set[str] = field(default_factory=set[str])
    holders: dict[Name, Holder] = field(default_factory=dict[Name, Holder])
    by_delta: dict[str, list[Holder]] = field(default_factory=dict[str, list[Holder]])
    by_blob: dict[str, list[Holder]] = field(default_factory=dict[str, list[Holder]])
    leftover: list[Name] = field(default_factory=list[Name])


def state_of(store: Store) -> object:
    """Return what `Mark.state` is compared with; see `Records.version` for its thread."""
    return store.images.signature(), store.records.version(), store.repositories.signature()


def mark(store: Store) -> Mark:
    """Look at images, leases and records.

    Raises:
        EnvironmentFault: one of them cannot be read, so nothing may be called free.
    """
    # The state first: what changes while we look makes this mark stale, never wrongly fresh.
    found = Mark(state=state_of(store), leased=store.leases.held())
    roots = [entry["digest"] for entry in store.images.entries()]
    reach(store.blobs, roots, found.image_blobs)
    found.image_blobs |= store.repositories.linked()
    uses = dict(store.records.items(USE))
    results: set[str] = set()
    for key, value in store.records.items(RESULT):
        results.add(key)
        _add(found, _result(key, value, as_object(uses.get(key))))
    for kind in store.records.kinds():
        if kind in (RESULT, USE, ALIAS, SECONDS, PUSHED, INPUTS, LISTING, COPIED):
            continue
        for key, value in store.records.items(kind):
            _add(found, _other(kind, key, value))
    found.leftover += [(USE, key) for key in uses if key not in results]
    found.leftover += [
        (PUSHED, key)
        for key, _ in store.records.items(PUSHED)
        if not (_DIGEST.match(key) and store.blobs.has(Digest(key)))
    ]
    found.leftover += [
        (ALIAS, key)
        for key, value in store.records.items(ALIAS)
        if value.get("target") not in results
    ]
    found.leftover += [
        (COPIED, key)
        for key, value in store.records.items(COPIED)
        if not store.deltas.has_name(value.get("delta"))
    ]
    found.leftover += [
        name
        for name, holder in found.holders.items()
        if name[0] == LAYER and _is_spent(store, found, name[1], holder)
    ]
    return found


def _is_spent(store: Store, found: Mark, delta: str, holder: Holder) -> bool:
    """Tell whether a layer's record is about nothing here and no result needs it for pulling."""
    return (
        ("delta", delta) not in found.leased
        and len(found.by_delta[delta]) == 1
        and not any(store.blobs.has(digest) for digest in holder.blobs)
        and not store.deltas.has(delta)
    )


def _add(found: Mark, holder: Holder) -> None:
    found.holders[holder.name] = holder
    for id in holder.deltas:
        found.by_delta.setdefault(id, []).append(holder)
    for digest in holder.blobs:
        found.by_blob.setdefault(digest, []).append(holder)


def _result(key: str, value: dict[str, Any], use: dict[str, Any]) -> Holder:
    created = as_number(value.get("at"), as_number(value.get("created")))
    return Holder(
        name=(RESULT, key),
        deltas=with_wholes(str(id) for id in as_list(value.get("deltas"))),
        description=str(value.get("name") or ""),
        created=created,
        last_used=max(created, as_number(use.get("at"))),
        use_count=int(as_number(use.get("count"))),
        seconds=max(0.0, as_number(value.get("seconds"))),
    )


def _other(kind: str, key: str, value: dict[str, Any]) -> Holder:
    """Any kind of record holds the blobs whose digests stand anywhere in it."""
    times = [as_number(value.get(name)) for name in ("at", "created", "used", "last_used")]
    return Holder(
        name=(kind, key),
        deltas=with_wholes([key]) if kind == LAYER else (),
        blobs=tuple(sorted(set(_digests(value)))),
        description=str(value.get("name") or value.get("description") or ""),
        created=as_number(value.get("created"), times[0]),
        last_used=max(times),
        use_count=int(as_number(value.get("count"))),
    )


def _digests(value: object) -> Iterator[Digest]:
    queue: list[object] = [value]
    while queue:
        item = queue.pop()
        if isinstance(item, str):
            if _DIGEST.match(item):
                yield Digest(item)
        else:
            members = as_object(item)
            queue += [*members, *members.values(), *as_list(item)]
