"""From the store to registries: blobs, then manifests, then the index, then the names [OUT-12].

In this order nobody over there ever sees a name whose content is not complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import INDEX_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, UserError
from pybuild.model.reference import Reference
from pybuild.net.tasks import gather
from pybuild.registry.client import manifests
from pybuild.registry.client.blobsink import BlobSource, Progress
from pybuild.registry.client.client import Client


@dataclass(frozen=True, slots=True)
class PushedImage:
    """The pushed manifests: (name, descriptor) pairs in the order of the references."""

    names: tuple[tuple[Reference, Descriptor], ...]


@dataclass(slots=True)
class _Plan:
    """The blobs and documents of one root; *documents* are children before parents, no root."""

    blobs: dict[Digest, Descriptor] = field(default_factory=dict[Digest, Descriptor])
    documents: dict[Digest, tuple[Descriptor, bytes]] = field(
        default_factory=dict[Digest, tuple[Descriptor, bytes]]
    )


async def push_image(
    client: Client,
    blobs: BlobSource,
    descriptor: Descriptor,
    references: Sequence[Reference],
    *,
    mount_sources: Mapping[Digest, Sequence[str]] | None = None,
    push_by_digest: bool = False,
    progress: Progress | None = None,
) -> PushedImage:
    """Push the manifest or index *descriptor* from *blobs* to all *references*.

    Args:
        mount_sources: by blob digest, repositories (``host/path``) that are known to have it;
            those on the same host are mounted from.
        push_by_digest: store the root under its digest only, whatever tags are in *references*.

    Raises:
        UserError: a reference carries a digest [OUT-18].
        HttpFault: a registry failed or refused.
        InternalError: the store lacks something that *descriptor* needs.
    """
    for reference in references:
        if reference.digest is not None:
            raise UserError(f"push {reference}: a name to push to cannot have a digest")
    plan = _Plan()
    root = await asyncio.to_thread(_survey, blobs, descriptor, plan, 0)
    sources = {digest: list(places) for digest, places in (mount_sources or {}).items()}
    by_repository: dict[str, list[Reference]] = {}
    for reference in references:
        by_repository.setdefault(reference.repository, []).append(reference)
    pushed: dict[Reference, Descriptor] = {}
    for repository, names in by_repository.items():
        await _push_content(client, blobs, plan, names[0], sources, progress)
        for name in names:
            target = Reference(name.host, name.path) if push_by_digest else name
            await client.push_manifest(target, descriptor.media_type, root)
            pushed[name] = descriptor
        for digest in plan.blobs:  # the next repository can mount from this one
            sources.setdefault(digest, []).insert(0, repository)
    return PushedImage(tuple((name, pushed[name]) for name in references))


async def _push_content(
    client: Client,
    blobs: BlobSource,
    plan: _Plan,
    name: Reference,
    sources: Mapping[Digest, Sequence[str]],
    progress: Progress | None,
) -> None:
    def mounts(digest: Digest) -> list[str]:
        start = name.host + "/"
        return [s.removeprefix(start) for s in sources.get(digest, ()) if s.startswith(start)]

    await gather(
        [
            client.push_blob(name, blob, blobs, mounts(blob.digest), progress)
            for blob in plan.blobs.values()
        ]
    )
    for document, data in plan.documents.values():
        await client.push_manifest(Reference(name.host, name.path), document.media_type, data)


def _survey(blobs: BlobSource, descriptor: Descriptor, plan: _Plan, depth: int) -> bytes:
    """Collect the blobs and documents of *descriptor* into *plan*; return its own bytes."""
    if depth > 4:
        raise InternalError(f"index {descriptor.digest}: nested too deeply to push")
    name = f"store: {descriptor.media_type}"
    try:
        data = Path(blobs.path(descriptor.digest)).read_bytes()
    except OSError as error:
        raise InternalError(
            f"{name} {descriptor.digest} is not in the store: {error.strerror}"
        ) from error
    manifests.verify(name, data, descriptor.digest, descriptor.size)
    if descriptor.media_type in INDEX_TYPES:
        for child in manifests.children(name, data):
            below = _survey(blobs, child, plan, depth + 1)
            plan.documents.setdefault(child.digest, (child, below))
        return data
    config, layers = manifests.parts(name, data)
    for blob in (config, *layers):
        if manifests.is_distributable(blob.media_type):
            plan.blobs.setdefault(blob.digest, blob)
    for blob in plan.blobs.values():
        if not blobs.has(blob.digest):
            raise InternalError(f"blob {blob.digest} is not in the store")
    return data
