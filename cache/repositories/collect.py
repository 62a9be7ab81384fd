"""Collection in the registry's repositories: links that nothing needs are taken away [GC-4].

A manifest is needed when a tag names it, when a needed index lists it, when a needed manifest is
its subject, or when it was pushed and nobody deleted what it belongs to. A blob is needed when a
needed manifest names it, or when somebody may be about to push a manifest that does. What is no
link's any more is freed by `prune`.
"""

from __future__ import annotations

from dataclasses import field, replace

from pybuild.cache.content.images import references
from pybuild.cache.repositories.repositories import ManifestEntry, Repository
from pybuild.cache.space.mark import Mark, mark, state_of
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from pybuild.model.jsontext import parse

_MANIFEST_BYTES = 8 << 20
# Removals under one hold of the lock, and looks at a store that changes meanwhile.
_BATCH = 64
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """The seconds for which unneeded links are kept.

    Attributes:
        blobs: after they were pushed or asked for; pushes take that long at most.
        released: manifests, after their tag was deleted.
        untagged: manifests that no tag names, after they were pushed; None: for ever.
    """

    blobs: float = 3600.0
    released: float = 3600.0
    untagged: float | None = None


@dataclass(slots=True)
class Unlinked:
    """The numbers of links that were taken away."""

    manifests: int = 0
    blobs: int = 0


@dataclass(slots=True)
class Freed:
    """The blobs that were freed from ``blobs/``; *size* in bytes."""

    blobs: int = 0
    size: int = 0


@dataclass(slots=True)
class Content:
    """One repository, read.

    Attributes:
        entries: its manifests.
        children: the digests that each of them names: (role, digest); absent if its bytes cannot be read.
        tagged: the manifests that tags name.
        used: when each of its blobs was pushed or asked for.
    """

    entries: dict[Digest, ManifestEntry]
    children: dict[Digest, list[tuple[str, Digest]]]
    tagged: set[Digest]
    used: dict[Digest, float] = field(default_factory=dict[Digest, float])


def needed(content: Content, keeping: Keeping, now: float) -> set[Digest]:
    """Return the manifests that must stay. Pure."""
    referrers: dict[Digest, list[Digest]] = {}
    for digest, entry in content.entries.items():
        if entry.subject is not None:
            referrers.setdefault(entry.subject, []).append(digest)
    queue = [
        digest
        for digest, entry in content.entries.items()
        if digest in content.tagged or _stays(entry, keeping, now)
    ]
    staying: set[Digest] = set()
    while queue:
        digest = queue.pop()
        if digest in staying or digest not in content.entries:
            continue
        staying.add(digest)
        queue += referrers.get(digest, ())
        queue += [child for role, child in content.children.get(digest, ()) if role == "manifests"]
    return staying


def _stays(entry: ManifestEntry, keeping: Keeping, now: float) -> bool:
    age = now - entry.changed
    if entry.released:
        return age < keeping.released
    return keeping.untagged is None or age < keeping.untagged


def spare_blobs(
    content: Content, needed: set[Digest], keeping: Keeping, now: float
) -> list[Digest]:
    """Return the blobs to unlink. Pure.

    Never one that was pushed or asked for a moment ago, even if the manifest that named it was
    deleted since: another push, of which we know nothing yet, may rely on the same blob.
    """
    if any(digest not in content.children for digest in needed):
        return []  # a manifest that cannot be read names nobody knows what
    named = {child for digest in needed for _, child in content.children[digest]}
    return sorted(
        digest
        for digest, used in content.used.items()
        if digest not in named and now - used >= keeping.blobs
    )


def unlink(store: Store, keeping: Keeping) -> Unlinked:
    """Take away the links that nothing needs, of all repositories.

    Raises:
        EnvironmentFault: a link cannot be removed.
    """
    done = Unlinked()
    for repository in store.repositories:
        while _pass(store, repository, keeping, done):
            pass  # what was released by what went may go now
    return done


def unlink_at_once(store: Store, keeping: Keeping) -> Unlinked:
    """As `unlink`, but take what was deleted now; its blobs too when no server runs.

    Where one does, what was pushed or asked for within the time of a push stays.

    Raises:
        EnvironmentFault: a link cannot be removed.
    """
    with store.repositories.unserved() as unserved:
        blobs = 0.0 if unserved else keeping.blobs
        return unlink(store, replace(keeping, released=0.0, blobs=blobs))


def _pass(store: Store, repository: Repository, keeping: Keeping, done: Unlinked) -> bool:
    """Look once; tell whether a manifest went."""
    now = store.clock.now()
    with store.repositories.exclusively():
        content = _read(store, repository)
        kept = needed(content, keeping, now)
        unneeded = sorted(content.entries.keys() - kept)
        spare = spare_blobs(content, kept, keeping, now)
        # Children of what goes were pushed for its sake.
        for digest in unneeded:
            for role, child in content.children.get(digest, ()):
                if role == "manifests" and child in content.entries:
                    repository.release(child)
        for digest in unneeded:
            done.manifests += repository.drop(digest)
    for digest in spare:
        # Somebody who was told meanwhile that it is here pushes on.
        with store.leases.collecting():
            if repository.blob_used(digest) == content.used[digest]:
                done.blobs += repository.unlink_blob(digest)
    return bool(unneeded)


def _read(store: Store, repository: Repository) -> Content:
    manifests = [repository.manifest(digest) for digest in repository.manifests()]
    entries = {entry.descriptor.digest: entry for entry in manifests if entry is not None}
    children: dict[Digest, list[tuple[str, Digest]]] = {}
    for digest in entries:
        try:
            children[digest] = references(parse(store.blobs.read(digest, _MANIFEST_BYTES)))
        except BlobMissing:
            continue
    tagged = {named.digest for tag in repository.tags() if (named := repository.tag(tag))}
    used = {digest: repository.blob_used(digest) for digest in repository.blobs()}
    return Content(entries, children, tagged, used)


def free_unheld(store: Store, older_than_s: float) -> Freed:
    """Delete the blobs that no image, no link, no record and no living process names.

    What is left of the work of killed processes is among them, so a server that runs for months
    needs no `prune`; what a build may use again is not.

    Raises:
        EnvironmentFault: images, links, leases or records cannot be read.
    """
    freed = Freed()
    for _ in range(_TRIES):
        marked = mark(store)
        now = store.clock.now()
        spare = [
            (digest, status.st_blocks * 512)
            for digest, status in store.blobs.list()
            if digest not in marked.image_blobs
            and digest not in marked.by_blob
            and ("blob", digest) not in marked.leased
            and now - status.st_mtime >= older_than_s
        ]
        if _delete(store, marked, spare, freed):
            break
    return freed


def _delete(store: Store, marked: Mark, spare: list[tuple[Digest, int]], freed: Freed) -> bool:
    """Delete as long as *marked* holds; tell whether it held to the end."""
    for start in range(0, len(spare), _BATCH):
        with store.leases.collecting():
            if state_of(store) != marked.state or store.leases.held() - marked.leased:
                return False
            for digest, size in spare[start : start + _BATCH]:
                store.blobs.delete(digest)
                freed.blobs += 1
                freed.size += size
    return True
