"""Copies whole images between registries and layouts: indexes, attestations and all [CMD-7].

Digests do not change: documents are copied byte by byte, children before parents, names last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import partial

from pybuild.cache.store import Store
from pybuild.exporter.imagetools.place import ImagePlace, Progress
from pybuild.image.manifest import MAX_DEPTH, Manifest, is_foreign, parse_manifest
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.platform import Platform
from pybuild.net.tasks import gather

_MOST_DOCUMENTS = 4096


@dataclass(slots=True)
class Plan:
    """All that an image is: *documents* are children before parents, the root last."""

    blobs: dict[Digest, Descriptor] = field(default_factory=dict[Digest, Descriptor])
    documents: dict[Digest, tuple[Descriptor, bytes]] = field(
        default_factory=dict[Digest, tuple[Descriptor, bytes]]
    )


async def survey(source: ImagePlace, root: Descriptor, data: bytes) -> Plan:
    """Return the parts of *root*; its layers are not looked at.

    Raises:
        EnvironmentFault: a document is broken, or indexes are nested too deeply or without end.
    """
    plan = Plan()
    await _survey(source, root, data, plan, MAX_DEPTH)
    return plan


async def _survey(
    source: ImagePlace, descriptor: Descriptor, data: bytes, plan: Plan, depth: int
) -> None:
    if depth == 0:
        raise EnvironmentFault(f"{source.name}: indexes are nested more than {MAX_DEPTH} deep")
    if len(plan.documents) >= _MOST_DOCUMENTS:
        raise EnvironmentFault(f"{source.name}: more than {_MOST_DOCUMENTS} manifests")
    document = parse_manifest(data, descriptor.media_type)
    if isinstance(document, Manifest):
        for blob in (document.config, *document.layers):
            if not is_foreign(blob.media_type):
                plan.blobs.setdefault(blob.digest, blob)
    else:
        for child in document.manifests:
            if child.digest not in plan.documents:
                below = await source.document(child)
                await _survey(source, child, below, plan, depth - 1)
    plan.documents[descriptor.digest] = (descriptor, data)


async def copy_image(
    source: ImagePlace,
    targets: Sequence[ImagePlace],
    store: Store,
    progress: Progress,
    *,
    platform: Platform | None = None,
    referrers: bool = False,
) -> Descriptor:
    """Copy the image that *source* names to each of *targets*, under their names.

    Args:
        store: blobs pass through it, if they have to; its view keeps them meanwhile.
        platform: only this one, without the index around it.
        referrers: the manifests that refer to any part of it, too, and their own referrers.

    Raises:
        UserError: there is nothing of that name, or not for *platform*.
        EnvironmentFault: a registry or directory failed, or holds something broken.
    """
    root, data = await source.root()
    if platform is not None:
        root, data = await _only(source, root, data, platform)
    plan = await survey(source, root, data)
    for target in targets:
        await copy_parts(source, target, plan, store, progress)
        await target.keep(root, data, named=True)
    if referrers:
        await _copy_referrers(source, targets, store, progress, plan)
    return root


async def _copy_referrers(
    source: ImagePlace, targets: Sequence[ImagePlace], store: Store, progress: Progress, plan: Plan
) -> None:
    """Have all that refers to the documents of *plan* at *targets*; each after its subject."""
    known = set(plan.documents)
    pending = list(plan.documents)
    while pending:
        for referrer in await source.referrers(pending.pop(0)):
            descriptor = referrer.descriptor
            if descriptor.digest in known:
                continue  # an attestation that the index has, too; or a ring, were that possible
            if len(known) >= _MOST_DOCUMENTS:
                raise EnvironmentFault(f"{source.name}: more than {_MOST_DOCUMENTS} manifests")
            data = await source.document(descriptor)
            below = await survey(source, descriptor, data)
            for target in targets:
                await copy_parts(source, target, below, store, progress)
                await target.attach(referrer, data)
            known.add(descriptor.digest)
            pending.append(descriptor.digest)


async def copy_parts(
    source: ImagePlace, target: ImagePlace, plan: Plan, store: Store, progress: Progress
) -> None:
    """Have all of *plan* but the last document at *target*, named by digests only."""
    near = [source.repository] if source.repository else []
    await gather(
        [
            target.take(blob, store, partial(source.bring, blob, store, progress), near, progress)
            for blob in plan.blobs.values()
        ]
    )
    for descriptor, data in list(plan.documents.values())[:-1]:
        await target.keep(descriptor, data, named=False)


async def _only(
    source: ImagePlace, root: Descriptor, data: bytes, platform: Platform
) -> tuple[Descriptor, bytes]:
    document = parse_manifest(data, root.media_type)
    if isinstance(document, Manifest):
        return root, data
    ranks = [
        (rank, at)
        for at, child in enumerate(document.manifests)
        if child.platform is not None and (rank := platform.rank(child.platform)) is not None
    ]
    if not ranks:
        known = sorted(str(c.platform) for c in document.manifests if c.platform)
        raise UserError(
            f"{source.name}: no match for platform {platform}", hints=[f"it has {', '.join(known)}"]
        )
    child = document.manifests[min(ranks)[1]]
    return child, await source.document(child)
