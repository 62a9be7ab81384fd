"""Removing images and what they alone need: ``pybuild image prune`` [RUN-24].

What cached results still use of it stays, for `prune`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.cache.content.images import reach, references
from pybuild.cache.content.origins import may_build_again, origins_of
from pybuild.cache.records.layers import LAYER
from pybuild.cache.records.results import RESULT
from pybuild.cache.space.filters import parse_moment
from pybuild.cache.space.prune import Pruned, sweep
from pybuild.cache.space.usage import UsageRecord
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, UsageError
from pybuild.model.jsontext import parse
from pybuild.model.text import boolean


@dataclass(frozen=True, slots=True)
class Removed:
    """An image that was removed, and the names that it had."""

    digest: str
    names: tuple[str, ...]


def prune_images(
    store: Store, *, all: bool = False, before: float | None = None
) -> tuple[list[Removed], Pruned]:
    """Remove images that neither a process nor a container uses: those without a name, but for last results of builds.

    Args:
        all: last results and images with names too.
        before: only what was last built, tagged or loaded by then.

    Raises:
        EnvironmentFault: the store cannot be read or changed.
    """
    # Who leases an image looks for it in the index afterwards: it is there, or it was not leased.
    with store.leases.collecting():
        used = store.leases.held()
        removed = [
            image
            for image in _candidates(store, all)
            if used.isdisjoint(_manifests(store, image.digest))
            and (before is None or store.blobs.time(image.digest) <= before)
        ]
        store.images.drop({image.digest for image in removed})
    parts: set[str] = set()
    reach(store.blobs, [image.digest for image in removed], parts)
    return removed, sweep(store, lambda records: _needless(records, parts))


def _manifests(store: Store, digest: str) -> set[tuple[str, str]]:
    """Return the names of an image in leases: its manifest, or its index and the manifests of that."""
    try:
        children = references(parse(store.blobs.read(Digest.parse(digest))))
    except BlobMissing:
        children = []
    own = [child for role, child in children if role == "manifests"]
    return {("blob", one) for one in (digest, *own)}


def _candidates(store: Store, all: bool) -> list[Removed]:
    kept = {
        str(entry["digest"])
        for entry in store.images.entries()
        if any(map(may_build_again, origins_of(entry)))
    }
    return [
        Removed(image.digest, names)
        for names, image in store.images.list()
        if all or not (names or image.digest in kept)
    ]


def _needless(records: Sequence[UsageRecord], parts: set[str]) -> list[UsageRecord]:
    """Return the *parts* that are neither an image's any more nor a layer of cached results."""
    cached = {
        record.id
        for record in records
        if record.kind == "delta" and any(kind == RESULT for kind, _ in record.records)
    }
    return [
        record
        for record in records
        if record.kind == "blob"
        and record.id in parts
        and record.reclaimable
        and all(kind == LAYER and key not in cached for kind, key in record.records)
    ]


def read_image_filters(filters: Sequence[str], now: float, all: bool) -> tuple[bool, float | None]:
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
