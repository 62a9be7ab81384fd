"""Base images: from a name to a manifest, a config and the facts about its layers.

Only metadata moves here; layers are fetched when a step or an output needs them [ARC-7].
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pybuild.cache.content.resolutions import Resolutions
from pybuild.cache.records.layers import delta_of_layer, keep_layer, layer_facts
from pybuild.cache.store import Store
from pybuild.engine.progress import InternalStep, internal_step
from pybuild.executor.fetch import LayerGone
from pybuild.frontend.lowering.interface import ImageRequest, Pull, ResolvedImage
from pybuild.image.manifest import (
    MAX_CONFIG_BYTES,
    Manifest,
    choose,
    parse_config,
    parse_index,
    parse_manifest,
)
from pybuild.model.descriptor import MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, EnvironmentFault, PybuildError, UserError
from pybuild.model.events import Emit
from pybuild.model.layerfacts import LENT_PREFIX, LayerFacts
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.cache.content.blobwriter import Follower
    from pybuild.engine.layerproof import SingleBlob
    from pybuild.registry.client.client import Client
    from pybuild.registry.client.pull import ResolvedManifest

Lender = Callable[[Descriptor, InternalStep], Awaitable[None]]
PEERS_COMPRESSION = ("zstd", 1)  # of what is unpacked at once: less bytes, and hardly any time


class Peers(Protocol):
    """Other stores, which make layers of the deltas that they have when one is asked for."""

    def have(self, delta: str) -> bool:
        """Return whether a store that can be reached is known to have the delta."""
        ...

    async def make(
        self, delta: str, compression: str, level: int | None
    ) -> tuple[Digest, Descriptor]:
        """Have a store that has the delta make a layer of it; return its diffID and its blob.

        Raises:
            LayerGone: there is none that can be reached.
        """
        ...

    async def bring(self, delta: str, layer: Descriptor, step: InternalStep) -> None:
        """Copy the blob of a layer that was made into our store, compared with its digest.

        Raises:
            LayerGone: as `make`.
        """
        ...


class ImageSourceResolver:
    """Finds images: the local store, then what was resolved before, then the registry [FROM-18].

    Args:
        cache_client: for layers of caches, if another one is.
        is_guest: the store has what others brought: whoever asks shows each time that it may read.

    Attributes:
        used: the images that were requested and found, and whether the local store had it under that name; a
            memo of the build holds while these answers would be the same.
        damaged: blobs of layout directories that turned out not to be what their names say.
        lenders: who copies a blob into the store from what is no directory here, by the name that
            a layer's record has as its layout.
        peers: other stores that this one works with.
    """

    def __init__(
        self,
        store: Store,
        client: Callable[[], Client],
        cache_client: Callable[[], Client] | None = None,
        *,
        is_guest: bool = False,
    ) -> None:
        self._store = store
        self._client = client
        self._cache_client = cache_client or client
        self.resolutions = Resolutions(store.names_dir)
        self._fetching: dict[str, asyncio.Lock] = {}
        self.used: list[tuple[ImageRequest, Digest, bool]] = []
        self.damaged: set[tuple[str, Digest]] = set()
        self.lenders: dict[str, Lender] = {}
        self.peers: Peers | None = None
        self.is_guest = is_guest

    async def resolve(self, request: ImageRequest, *, pull: Pull) -> ResolvedImage:
        """Return the manifest and config of *request*.

        Args:
            pull: whether to ask the registry even if the answer is known.

        Raises:
            UserError: no such image; EnvironmentFault: the registry cannot be reached.
        """
        reference, platform = request.reference, request.platform
        if request.layout:
            return await asyncio.to_thread(self._of_layout, request)
        asks = pull is True or pull == "newer"
        manifest, is_local = (None, False) if asks else await self._known(reference, platform)
        if pull == "never" and (manifest is None or not self._has_layers(manifest)):
            raise UserError(
                f"image {reference.familiar} is not in the store, and --pull=never asks no registry",
                hints=[
                    f"pybuild pull {reference.familiar} brings it; or build without --pull=never"
                ],
            )
        if manifest is None:
            try:
                resolved = await self._ask(reference, platform)
            except PybuildError:
                if pull == "newer":
                    manifest, is_local = await self._known(reference, platform)
                if manifest is None:
                    raise
            else:
                manifest = await self._keep(reference, platform, resolved)
        self.used.append((request, manifest.digest, is_local))
        return self.describe(manifest, reference)

    async def _keep(
        self, reference: Reference, platform: Platform, resolved: ResolvedManifest
    ) -> Descriptor:
        """Store the documents of an answer of a registry; return its manifest."""
        if self.is_guest:
            await self._prove(reference, resolved)
        for data in (resolved.config_bytes, resolved.manifest_bytes, *reversed(resolved.indexes)):
            await asyncio.to_thread(self._store.blobs.put, data)
        self.resolutions.put(reference, platform, resolved.manifest)
        return resolved.manifest

    async def _known(
        self, reference: Reference, platform: Platform
    ) -> tuple[Descriptor | None, bool]:
        """The manifest that the store has under the name, or had of its registry; and whether the first."""
        manifest = await asyncio.to_thread(self._local, reference, platform)
        if manifest is not None or self.is_guest:
            return manifest, manifest is not None
        return self._whole(self.resolutions.get(reference, platform), platform), False

    def _has_layers(self, manifest: Descriptor) -> bool:
        document = self._manifest(manifest)
        config = parse_config(self._store.blobs.read(document.config.digest))
        diff_ids = config.get("rootfs", {}).get("diff_ids", [])
        return all(
            self._store.blobs.holds(layer)
            or self._store.deltas.has(delta_of_layer(Digest.parse(diff_id)))
            for layer, diff_id in zip(document.layers, diff_ids, strict=False)
        )

    async def _prove(self, reference: Reference, resolved: ResolvedManifest) -> None:
        from pybuild.engine.layerproof import needs_proof, place_of, prove

        config = parse_config(resolved.config_bytes)
        diff_ids = [Digest.parse(text) for text in config.get("rootfs", {}).get("diff_ids", [])]

        async def bring(layer: Descriptor, aside: SingleBlob) -> None:
            await self._client().pull_blob(reference, layer, aside)

        for layer, diff_id in zip(resolved.layers, diff_ids, strict=False):
            if needs_proof(self._store, diff_id, place_of(str(reference))):
                await prove(self._store, layer, diff_id, bring)

    async def _ask(self, reference: Reference, platform: Platform) -> ResolvedManifest:
        """Ask the registry; where there is none to ask, what is wrong with ours is the news."""
        from pybuild.registry.client.pull import resolve_image

        try:
            return await resolve_image(self._client(), reference, platform)
        except PybuildError as error:
            lacks = await asyncio.to_thread(self._lacks, str(reference))
            if lacks:
                text = f"the store has {reference.familiar}, but {lacks}: {error.message}"
                hint = f"build, load or pull {reference.familiar} again"
                raise error.saying(text).hinting(hint) from error.__cause__
            from pybuild.engine.unknownimages import worded

            def stored() -> list[str]:
                images = [] if self.is_guest else self._store.images.list()
                return [name for names, _ in images for name in names]

            client = self._client()
            tags = partial(client.tags, reference)
            fault = await worded(error, reference, stored, tags, client.settings_file)
            raise fault from error.__cause__

    def _lacks(self, name: str) -> str:
        """Return the document of an image of the store that is gone or was damaged, if one is."""
        try:
            descriptor = self._store.images.resolve(name)
            while descriptor is not None:
                document = parse_manifest(
                    self._store.blobs.read(descriptor.digest), descriptor.media_type
                )
                if isinstance(document, Manifest):
                    self._store.blobs.read(document.config.digest)
                    return ""
                descriptor = next(iter(document.manifests), None)
        except BlobMissing as missing:
            return str(missing)
        except PybuildError as error:
            return error.message
        return ""

    def _of_layout(self, request: ImageRequest) -> ResolvedImage:
        """Take the manifest and config out of a layout directory; layers are left in it [NC-1]."""
        from pybuild.cache.content.layoutdirectory import LayoutDirectory, parse_layout

        path, tag, digest = parse_layout(request.layout)
        layout = LayoutDirectory(path)
        manifest, document = layout.choose(layout.find(tag, digest), request.platform)
        for blob in (document.config, manifest):
            self._store.blobs.put(layout.read(blob, MAX_CONFIG_BYTES))
        return self.describe(manifest, request.reference, layout.path)

    def describe(
        self, manifest: Descriptor, reference: Reference, layout: str = ""
    ) -> ResolvedImage:
        """Read a manifest and config that are in the store, and note where its layers are found.

        Args:
            layout: the layout directory that has the layers; empty for a registry.
        """
        document = self._manifest(manifest)
        config = parse_config(self._store.blobs.read(document.config.digest))
        layers = list(document.layers)
        diff_ids = [Digest.parse(text) for text in config.get("rootfs", {}).get("diff_ids", [])]
        if len(layers) != len(diff_ids):
            raise UserError(
                f"image {reference}: manifest has {len(layers)} layers,"
                f" config has {len(diff_ids)} diff ids"
            )
        note_layers(self._store, reference, layers, diff_ids, layout)
        return ResolvedImage(
            digest=manifest.digest,
            config=config,
            layer_count=len(layers),
            platform=Platform.from_json(config),
        )

    def _local(self, reference: Reference, platform: Platform) -> Descriptor | None:
        """An image that was built or pulled here under this name; it stays, whoever takes that."""
        image = self._store.images.held(str(reference), self._store.lease)
        return self._whole(image, platform)

    def _whole(self, descriptor: Descriptor | None, platform: Platform) -> Descriptor | None:
        """The platform's manifest, if it and its config are in the store."""
        try:
            manifest = self._choose(descriptor, platform) if descriptor else None
            return manifest if manifest is not None and self._is_whole(manifest) else None
        except BlobMissing:  # its bytes were damaged: as good as not there
            return None

    def _choose(self, descriptor: Descriptor, platform: Platform) -> Descriptor | None:
        """The platform's manifest where *descriptor* is an index, itself where it is a manifest."""
        if descriptor.media_type in MANIFEST_TYPES:
            return descriptor
        if not self._store.blobs.holds(descriptor):
            return None
        data = self._store.blobs.read(descriptor.digest)
        return choose(parse_index(data, descriptor.media_type), platform)

    def _is_whole(self, manifest: Descriptor) -> bool:
        if not self._store.blobs.holds(manifest):
            return False
        config = self._manifest(manifest).config
        return self._store.blobs.holds(config) and bool(self._store.blobs.read(config.digest))

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        data = self._store.blobs.read(descriptor.digest)
        document = parse_manifest(data, descriptor.media_type)
        if not isinstance(document, Manifest):
            raise EnvironmentFault(f"{descriptor.digest} is an index where a manifest belongs")
        return document

    async def fetch(
        self,
        delta: str,
        emit: Emit,
        *,
        follower: Follower | None = None,
        is_compared: bool = False,
    ) -> None:
        """Bring the blob of a pulled layer into the store (`executor.fetch.Fetcher`)."""
        facts = layer_facts(self._store.records, delta)
        if facts is None or facts.descriptor is None:
            raise EnvironmentFault(
                f"layer {delta} is neither in the store nor known to any registry",
                hints=["build with --pull to resolve the base image again"],
            )
        descriptor = facts.descriptor
        if not facts.cache:
            await self._fetch(delta, descriptor, facts, emit, follower)
            return
        try:
            await self._fetch(delta, descriptor, facts, emit, follower)
        except LayerGone:
            raise
        except PybuildError as error:
            missing = isinstance(error, UserError) or getattr(error, "status", 0) == 404
            raise LayerGone(delta, error.message, everywhere=not missing) from error
        if not facts.is_checked and not is_compared:
            await self._check(delta, descriptor, facts)

    async def described(self, delta: str) -> LayerFacts:
        """Return the facts of a delta of another store (`executor.fetch.Fetcher`)."""
        diff_id, layer = await self.lent(delta, *PEERS_COMPRESSION)
        known = await asyncio.to_thread(layer_facts, self._store.records, delta) or LayerFacts()
        facts = replace(known, diff_id=diff_id, descriptor=layer)
        await asyncio.to_thread(keep_layer, self._store.records, delta, facts)
        return facts

    async def lent(
        self, delta: str, compression: str, level: int | None
    ) -> tuple[Digest, Descriptor]:
        """Have another store make a layer of its delta; return its diffID and its blob.

        Raises:
            LayerGone: there is no such store that can be reached.
        """
        if self.peers is None:
            raise LayerGone(delta, f"{delta} is in another store, and none is connected")
        return await self.peers.make(delta, compression, level)

    async def borrow(self, delta: str, layer: Descriptor, emit: Emit) -> None:
        """Bring the blob of a layer that another store made into this one.

        Raises:
            LayerGone: as `lent`.
        """
        await self._fetch(delta, layer, LayerFacts(layout=LENT_PREFIX), emit, None)

    async def _check(self, delta: str, descriptor: Descriptor, facts: LayerFacts) -> None:
        """Compare a cached layer with its diffID: nothing but the cache's word binds the two.

        Raises:
            LayerGone: it is another layer.
        """
        from pybuild.engine.layerproof import diff_id_of

        path = self._store.blobs.path(descriptor.digest)
        try:
            diff_id = await asyncio.to_thread(diff_id_of, path)
        except PybuildError as error:
            raise LayerGone(delta, error.message) from error
        if diff_id != facts.diff_id:
            raise LayerGone(delta, f"cached layer {facts.diff_id}: got {diff_id}")
        checked = replace(facts, is_checked=True)
        await asyncio.to_thread(keep_layer, self._store.records, delta, checked)

    async def _fetch(
        self,
        delta: str,
        descriptor: Descriptor,
        facts: LayerFacts,
        emit: Emit,
        follower: Follower | None,
    ) -> None:
        lock = self._fetching.setdefault(descriptor.digest, asyncio.Lock())
        async with lock, AsyncExitStack() as stack:
            await asyncio.to_thread(self._store.lease.add, "blob", descriptor.digest)
            if self._store.blobs.holds(descriptor):
                return
            if self._store.budget is not None:
                reservation = self._store.budget.reserved(descriptor.size)
                await asyncio.to_thread(stack.enter_context, reservation)
            layout = facts.layout
            if not (facts.reference or layout):
                raise EnvironmentFault(f"blob {descriptor.digest} is missing from the store")
            self._store.blobs.delete(descriptor.digest)  # what is there of it is not all of it
            if facts.is_lent:
                if self.peers is None:
                    raise LayerGone(delta, f"{delta} is in another store, and none is connected")
                title = f"[internal] copy {descriptor.digest.short} of another store"
                async with internal_step(title, emit, self._store.clock) as step:
                    await self.peers.bring(delta, descriptor, step)
                return
            if layout in self.lenders:
                title = f"[internal] copy {descriptor.digest.short} of {layout}"
                async with internal_step(title, emit, self._store.clock) as step:
                    await self.lenders[layout](descriptor, step)
                return
            if layout:
                from pybuild.cache.content.layoutdirectory import LayoutDirectory

                title = f"[internal] copy {descriptor.digest.short} of {layout}"
                async with internal_step(title, emit, self._store.clock):
                    source = await asyncio.to_thread(LayoutDirectory, layout)
                    try:
                        await asyncio.to_thread(source.copy, descriptor, self._store)
                    except PybuildError:
                        self.damaged.add((layout, descriptor.digest))  # or gone, as good as that
                        raise
                return
            reference = Reference.parse(facts.reference)
            title = f"[internal] pull {descriptor.digest.short} of {reference.familiar}"
            async with internal_step(title, emit, self._store.clock) as step:
                blobs = self._store.blobs
                if follower is not None:
                    blobs = blobs.followed_by(follower)
                client = self._cache_client() if facts.cache else self._client()
                try:
                    await client.pull_blob(reference, descriptor, blobs, step.transfer)
                except PybuildError as error:
                    text = (
                        f"layer {descriptor.digest} of {reference.familiar} is not in the store and"
                        f" cannot be fetched: {error.message}"
                    )
                    raise error.saying(text).hinting(
                        f"push the image to {reference.host} again, if that lost or damaged it",
                        "or build or load it here",
                    ) from error.__cause__


def note_layers(
    store: Store,
    reference: Reference,
    layers: list[Descriptor],
    diff_ids: list[Digest],
    layout: str = "",
) -> None:
    """Record, for each layer of an image, what it is and where it can be fetched."""
    # A layout's name is the context's: no repository that a registry could mount from.
    place = ("", layout) if layout else (str(reference), "")
    parents: list[str] = []
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        delta = delta_of_layer(diff_id)
        store.lease.add("delta", delta)  # first, or a prune in between would drop the record
        known = layer_facts(store.records, delta)
        if known is None or place != (known.reference, known.layout):
            facts = LayerFacts(
                diff_id=diff_id,
                descriptor=layer,
                reference=place[0],
                layout=place[1],
                parents=tuple(parents),
            )
            keep_layer(store.records, delta, facts)
        parents.append(delta)
