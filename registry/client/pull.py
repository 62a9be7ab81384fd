"""From a name and a platform to an image's bytes [IMG-20, REG-11]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import INDEX_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.net.tasks import gather
from pybuild.registry.client import manifests
from pybuild.registry.client.blobsink import BlobSink, Progress
from pybuild.registry.client.client import Client
from pybuild.registry.client.faults import ContentFault

_MOST_NESTED = 4
_MOST_SILENT = 8


@dataclass(frozen=True, slots=True)
class ResolvedManifest:
    """One platform's image, all of it but the layers.

    Attributes:
        reference: the requested name.
        root: the outermost index, or the manifest itself.
        indexes: the bytes of the indexes on the way, outermost first; empty without an index.
        manifest: the chosen manifest's descriptor, with its platform if an index said one.
        layers: base first.
    """

    reference: Reference
    root: Descriptor
    indexes: tuple[bytes, ...]
    manifest: Descriptor
    manifest_bytes: bytes
    config: Descriptor
    config_bytes: bytes
    layers: tuple[Descriptor, ...]

    @property
    def pinned(self) -> Reference:
        """The reference with the digest it had."""
        return self.reference.with_digest(self.root.digest)


async def resolve_image(
    client: Client, reference: Reference, platform: Platform
) -> ResolvedManifest:
    """Find the image that *reference* has for *platform*; a lone manifest is taken as it is.

    Raises:
        UserError: the image does not exist, or not for *platform*.
        HttpFault: the registry or the network failed, or content is not what it should be.
    """
    root, data = await client.manifest(reference)
    image = await _choose(client, reference, platform, root, root, data, ())
    if image is None:
        raise UserError(
            f"failed to resolve source metadata for {reference}: "
            f"no match for platform {platform} in manifest: not found",
            hints=_offers(reference, root, data),
        )
    return image


async def _choose(
    client: Client,
    reference: Reference,
    platform: Platform,
    root: Descriptor,
    descriptor: Descriptor,
    data: bytes,
    above: tuple[bytes, ...],
) -> ResolvedManifest | None:
    name = str(reference)
    if descriptor.media_type not in INDEX_TYPES:
        config, layers = manifests.parts(name, data)
        config_bytes = await client.blob(reference, config)
        return ResolvedManifest(
            reference, root, above, descriptor, data, config, config_bytes, tuple(layers)
        )
    if len(above) == _MOST_NESTED:
        raise ContentFault(f"{name}: more than {_MOST_NESTED} indexes inside each other")
    silent = 0
    for entry in candidates(manifests.children(name, data), platform):
        if not manifests.is_manifest_type(entry.media_type):
            continue  # an artifact among the images
        if entry.platform is None:
            silent += 1
            if silent > _MOST_SILENT:  # each costs two requests
                break
        _, below = await client.manifest(reference, entry)
        image = await _choose(client, reference, platform, root, entry, below, (*above, data))
        if image is None:
            continue
        if entry.platform is None and not _runs_on(platform, image.config_bytes):
            continue
        return image
    return None


def _runs_on(platform: Platform, config: bytes) -> bool:
    try:
        value = json.loads(config)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and platform.rank(Platform.from_json(value)) is not None  # pyright: ignore[reportUnknownArgumentType]


def _offers(reference: Reference, root: Descriptor, data: bytes) -> list[str]:
    if root.media_type not in INDEX_TYPES:
        return []
    known = {
        str(entry.platform)
        for entry in manifests.children(str(reference), data)
        if entry.platform is not None and entry.platform.os not in ("", "unknown")
    }
    if not known:
        return []
    return [f"the image has {', '.join(sorted(known))}: take one with --platform, or another image"]


async def pull_image(
    client: Client,
    blobs: BlobSink,
    reference: Reference,
    platform: Platform,
    *,
    layers: bool,
    progress: Progress | None = None,
) -> ResolvedManifest:
    """Bring an image's index, manifest, config and, if asked, layers into *blobs*.

    The documents are put last, so that what is found in the store by its manifest is complete.
    """
    image = await resolve_image(client, reference, platform)
    if layers:
        await pull_layers(client, blobs, image, progress=progress)
    await asyncio.to_thread(_keep, blobs, image)
    return image


def _keep(blobs: BlobSink, image: ResolvedManifest) -> None:
    documents = [(image.config.digest, image.config_bytes)]
    documents += [(image.manifest.digest, image.manifest_bytes)]
    for place, data in reversed(list(enumerate(image.indexes))):
        # Inner indexes are verified against their parents; the root names the outermost.
        digest = Digest.of(data) if place else image.root.digest
        documents.append((digest, data))
    for digest, data in documents:
        with blobs.writer(digest, len(data)) as writer:  # not put(): it may be a sha512
            writer.write(data)
            writer.commit()


async def pull_layers(
    client: Client,
    blobs: BlobSink,
    image: ResolvedManifest,
    *,
    progress: Progress | None = None,
) -> None:
    """Bring all layers into *blobs*, in parallel, each digest once."""
    layers = {layer.digest: layer for layer in image.layers}
    await gather(
        [client.pull_blob(image.reference, layer, blobs, progress) for layer in layers.values()]
    )


def candidates(entries: Sequence[Descriptor], platform: Platform) -> list[Descriptor]:
    """The entries that may run on *platform*, best first, then those that say no platform.

    Attestations (``unknown/unknown``) are no images. Equal ranks keep the index's order.
    """
    ranked: list[tuple[int, int, Descriptor]] = []
    silent: list[Descriptor] = []
    for position, entry in enumerate(entries):
        if entry.platform is None or not entry.platform.os:
            silent.append(entry)
        elif entry.platform.os != "unknown":
            rank = platform.rank(entry.platform)
            if rank is not None:
                ranked.append((rank, position, entry))
    return [entry for _, _, entry in sorted(ranked, key=lambda item: item[:2])] + silent
