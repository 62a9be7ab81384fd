"""The content of a repository as rows: tags, digests, sizes."""

from __future__ import annotations

from pybuild.cache.repositories.repositories import Repository, is_name
from pybuild.cache.store import Store
from pybuild.image.manifest import Index, parse_manifest
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, PybuildError, UsageError, UserError


def manifest_rows(store: Store, repository: Repository) -> list[dict[str, str | int]]:
    """Return a row for each name of each manifest, those with a tag first."""
    tags: dict[Digest, list[str]] = {}
    for tag in repository.tags():
        named = repository.tag(tag)
        if named is not None:
            tags.setdefault(named.digest, []).append(tag)
    rows: list[dict[str, str | int]] = []
    for digest in repository.manifests():
        entry = repository.manifest(digest)
        if entry is None:
            continue
        rows += [
            {
                "repository": repository.name,
                "tag": tag,
                "digest": digest,
                "media_type": entry.descriptor.media_type,
                "pushed": int(entry.changed),
                "size": _size(store, digest),
            }
            for tag in tags.get(digest, [""])
        ]
    return sorted(rows, key=lambda row: (not row["tag"], row["tag"], row["digest"]))


def _size(store: Store, digest: Digest) -> int:
    """Return the bytes of the configs and layers that a manifest or index names, each once."""
    queue, sizes = [digest], dict[Digest, int]()
    seen: set[Digest] = set()
    while queue:
        current = queue.pop()
        if current in seen:
            continue
        seen.add(current)
        try:
            document = parse_manifest(store.blobs.read(current))
        except (BlobMissing, PybuildError):
            continue
        if isinstance(document, Index):
            queue += [child.digest for child in document.manifests]
        else:
            sizes.update((blob.digest, blob.size) for blob in (document.config, *document.layers))
    return sum(sizes.values())


def known_repository(store: Store, name: str) -> Repository:
    if not is_name(name) or not store.repositories[name].exists():
        raise UserError(f'repository "{name}" does not exist', hints=["pybuild registry ls"])
    return store.repositories[name]


def parse_digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except ValueError as error:
        raise UsageError(f'"{text}": {error}') from error
