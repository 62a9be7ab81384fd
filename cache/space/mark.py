"""Marking: the things in the store and their holders: images, leases, records [STO-1, GC-4].

Marking reads; it decides nothing and frees nothing. `usage` turns a mark into a list for people,
`prune` sweeps by it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import field
from typing import Any

from pybuild.cache.content.images import name_of, reach
from pybuild.cache.content.origins import Origin, may_build_again, origins_of, shown
from pybuild.cache.content.patches import COPIED, CopyRecord, with_wholes
from pybuild.cache.records.inputs import INPUTS
from pybuild.cache.records.layers import LAYER
from pybuild.cache.records.results import ALIAS, PUSHED, RESULT, SEARCHED, SECONDS, USE
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.jsontext import as_list, as_number, as_object

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z|sha512:[0-9a-f]{128}\Z")

Name = tuple[str, str]

# The kind of an image without a name: it holds its blobs as records do, and goes as they go.
IMAGE = "image"


@dataclass(slots=True)
class Holder:
    """A record, or an image without a name, as far as freeing is concerned.

    Attributes:
        name: kind and key in `Records`; `IMAGE` and the digest.
        deltas, blobs: those that it names, and those that patches among them change; there or not.
        seconds: the time that making it again takes; 0 if not known.
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
        image_blobs: those that named images reach or the registry links; never freed.
        last_results: what images without names reach that are last results, and whose.
        by_delta, by_blob: the holders of each.
        leftover: housekeeping records whose subject is gone.
    """

    state: tuple[object, ...]
    leased: set[Name]
    image_blobs: set[str] = field(default_factory=set[str])
    last_results: dict[str, set[Origin]] = field(default_factory=dict[str, "set[Origin]"])
    holders: dict[Name, Holder] = field(default_factory=dict[Name, Holder])
    by_delta: dict[str, list[Holder]] = field(default_factory=dict[str, list[Holder]])
    by_blob: dict[str, list[Holder]] = field(default_factory=dict[str, list[Holder]])
    leftover: list[Name] = field(default_factory=list[Name])


def state_of(store: Store) -> tuple[object, ...]:
    """Return the state to compare with `Mark.state`; see `Records.version` for its thread."""
    return store.images.signature(), store.records.version(), store.repositories.signature()


def mark(store: Store) -> Mark:
    """Look at images, leases and records.

    Raises:
        EnvironmentFault: one of them cannot be read, so nothing may be called free.
    """
    # The state first: what changes while we look makes this mark stale, never wrongly fresh.
    marked = Mark(state=state_of(store), leased=store.leases.held())
    _add_images(store, marked)
    uses = dict(store.records.items(USE))
    results: set[str] = set()
    for key, value in store.records.items(RESULT):
        results.add(key)
        _add(marked, _result(key, value, as_object(uses.get(key))))
    for kind in store.records.kinds():
        if kind in (RESULT, USE, ALIAS, SECONDS, PUSHED, SEARCHED, INPUTS, COPIED):
            continue
        for key, value in store.records.items(kind):
            _add(marked, _other(kind, key, value))
    marked.leftover += [(USE, key) for key in uses if key not in results]
    marked.leftover += [
        (kind, key)
        for kind in (PUSHED, SEARCHED)
        for key in store.records.keys(kind)
        if not (_DIGEST.match(key) and store.blobs.has(Digest(key)))
    ]
    marked.leftover += [
        (ALIAS, key)
        for key, value in store.records.items(ALIAS)
        if value.get("target") not in results
    ]
    marked.leftover += [
        (COPIED, key)
        for key, value in store.records.items(COPIED)
        if (copy := CopyRecord.from_json(value)) is None or not store.deltas.has_name(copy.delta)
    ]
    marked.leftover += [
        name
        for name, holder in marked.holders.items()
        if name[0] == LAYER and _is_spent(store, marked, name[1], holder)
    ]
    return marked


def drop_images(store: Store, marked: Mark, digests: Collection[str]) -> None:
    """Remove images from the index, for who holds the collection lock; the mark stays as fresh."""
    store.images.drop(digests)
    marked.state = (store.images.signature(), *marked.state[1:])


def _add_images(store: Store, marked: Mark) -> None:
    unnamed: dict[str, dict[str, Any]] = {}
    named: set[str] = set()
    for entry in store.images.entries():
        if name_of(entry) is None:
            unnamed[entry["digest"]] = entry
        else:
            named.add(entry["digest"])
    named |= store.images.others()
    # One that a container or a build has is as good as named: it goes when they are gone.
    named |= {digest for digest in unnamed if ("blob", digest) in marked.leased}
    reach(store.blobs, named, marked.image_blobs)
    marked.image_blobs |= store.repositories.linked()
    for digest, entry in unnamed.items():
        if digest not in named:
            _add_unnamed(store, marked, digest, entry)


def _add_unnamed(store: Store, marked: Mark, digest: str, entry: dict[str, Any]) -> None:
    origins = [origin for origin in origins_of(entry) if may_build_again(origin)]
    reached: set[str] = set()
    reach(store.blobs, [digest], reached)
    created = store.blobs.time(digest)
    holder = Holder(
        name=(IMAGE, digest),
        blobs=tuple(sorted(reached)),
        description=f"last result of {shown(origins[0])}" if origins else "untagged image",
        created=created,
        last_used=created,
    )
    _add(marked, holder)
    for blob in reached if origins else ():
        marked.last_results.setdefault(blob, set()).update(origins)
    # With its manifest it has lost all, and one whose blobs all belong to others frees nothing.
    is_shared = not any(store.blobs.has(blob) for blob in reached - marked.image_blobs)
    if not created or (is_shared and not origins):
        marked.leftover.append(holder.name)


def _is_spent(store: Store, marked: Mark, delta: str, holder: Holder) -> bool:
    """Return whether a layer's record is about nothing here and no result needs it for pulling."""
    return (
        ("delta", delta) not in marked.leased
        and len(marked.by_delta[delta]) == 1
        and not any(store.blobs.has(digest) for digest in holder.blobs)
        and not store.deltas.has(delta)
    )


def _add(marked: Mark, holder: Holder) -> None:
    marked.holders[holder.name] = holder
    for id in holder.deltas:
        marked.by_delta.setdefault(id, []).append(holder)
    for digest in holder.blobs:
        marked.by_blob.setdefault(digest, []).append(holder)


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
