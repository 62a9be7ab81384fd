"""Images in OCI layouts of the client, copied into the store by its content service [4.1]."""

from __future__ import annotations

import asyncio
from functools import partial

from pybuild.cache.store import Store
from pybuild.daemon.session.content import SessionContent
from pybuild.daemon.session.sessions import Session
from pybuild.engine.baseimages import ImageSourceResolver
from pybuild.engine.layerproof import SingleBlob, needs_proof, prove
from pybuild.frontend.lowering.interface import ImageRequest, ResolvedImage
from pybuild.image.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    choose,
    parse_config,
    parse_index,
    parse_manifest,
)
from pybuild.model.descriptor import MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference


class ClientLayouts:
    """The layouts of one client."""

    def __init__(self, session: Session | None, images: ImageSourceResolver, store: Store) -> None:
        self._is_guest = images.is_guest
        self._store = store
        self._session = session
        self._images = images

    async def resolve(self, request: ImageRequest) -> ResolvedImage:
        """Answer the frontend's question for an image of a layout.

        Raises:
            UserError: there is no such layout or image.
        """
        place, _, text = request.layout.partition("@")
        try:
            digest = Digest.parse(text) if text else None
        except ValueError as error:
            raise UserError(f"oci-layout://{request.layout}: {error}") from error
        # A tag was looked up by the client, who has the layout's index.
        return await self.image(place.partition(":")[0], digest, request.platform)

    async def image(self, name: str, digest: Digest | None, platform: Platform) -> ResolvedImage:
        """Copy an image of the layout *name* into the store.

        Raises:
            UserError: there is no such layout or image, or no digest to find it by.
        """
        if self._session is None:
            raise UserError(f"no session has the OCI layout {name}")
        if digest is None:
            raise UserError(f"oci-layout://{name}: a digest is needed here")
        content = SessionContent(self._session, f"oci:{name}")
        manifest = await self._manifest(content, name, digest, platform)
        document = parse_manifest(self._store.blobs.read(manifest.digest), manifest.media_type)
        if not isinstance(document, Manifest):
            raise UserError(f"oci-layout://{name}@{digest}: an index where a manifest belongs")
        if self._is_guest:
            await asyncio.to_thread(
                self._store.blobs.put, await self._read(content, document.config.digest)
            )
        await self._copy(content, document.config)
        config = parse_config(self._store.blobs.read(document.config.digest))
        diff_ids = [Digest.parse(text) for text in config.get("rootfs", {}).get("diff_ids", [])]
        for layer, diff_id in zip(document.layers, diff_ids, strict=False):
            if self._is_guest and (
                self._store.blobs.has(layer.digest) or needs_proof(self._store, diff_id, "")
            ):
                await prove(self._store, layer, diff_id, partial(self._bring, content))
            await self._copy(content, layer)
        reference = Reference.parse("oci-layout/client").with_digest(manifest.digest)
        return await asyncio.to_thread(
            self._images.describe, manifest, reference, f"session:{name}"
        )

    async def _manifest(
        self, content: SessionContent, name: str, digest: Digest, platform: Platform
    ) -> Descriptor:
        """Return the manifest for *platform* that *digest* is, or names."""
        data = await self._read(content, digest)
        await asyncio.to_thread(self._store.blobs.put, data)
        if b'"manifests"' not in data:
            kind = next((t for t in MANIFEST_TYPES if t.encode() in data), OCI_MANIFEST)
            return Descriptor(kind, digest, len(data))
        manifest = choose(parse_index(data, OCI_INDEX), platform)
        if manifest is None:
            raise UserError(f"oci-layout://{name}@{digest}: no image for {platform}")
        await asyncio.to_thread(self._store.blobs.put, await self._read(content, manifest.digest))
        return manifest

    async def _read(self, content: SessionContent, digest: Digest) -> bytes:
        data = bytearray()
        async for piece in content.read(digest):
            data += piece
            if len(data) > MAX_MANIFEST_BYTES:
                raise UserError(f"{digest}: larger than {MAX_MANIFEST_BYTES >> 20} MiB")
        if Digest.of(bytes(data)) != digest:
            raise UserError(f"{digest}: the client sent something else")
        return bytes(data)

    async def _bring(self, content: SessionContent, blob: Descriptor, aside: SingleBlob) -> None:
        with aside.writer(blob.digest, blob.size) as file:
            async for piece in content.read(blob.digest):
                file.write(piece)
            file.commit()

    async def _copy(self, content: SessionContent, blob: Descriptor) -> None:
        if self._store.blobs.holds(blob):
            return  # a guest has shown that it has the layer
        with self._store.blobs.writer(blob.digest, blob.size) as file:
            async for piece in content.read(blob.digest):
                file.write(piece)
            file.commit()
