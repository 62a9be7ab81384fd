"""Places of whole images outside of the store: a repository, an OCI layout directory.

Copies between two of them go through the store, one blob at a time, and only as far as they have to.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from pybuild.cache.content.layoutdirectory import LayoutDirectory, parse_layout
from pybuild.cache.store import Store
from pybuild.exporter.atomicfile import whole_file
from pybuild.exporter.directories import make_output
from pybuild.image.archive import check_layout, list_in_layout, name_in_layout, write_layout_blob
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.registry.client.client import Client
    from pybuild.registry.client.referrers import Referrer

LAYOUT = "oci-layout://"
_MAX_DOCUMENT_BYTES = 8 << 20

Progress = Callable[[str, int, int], None]
Fetch = Callable[[], Awaitable[None]]


class ImagePlace(Protocol):
    """One image's place. *name* is how people call it; *repository* is ``host/path``, or empty."""

    @property
    def name(self) -> str: ...

    @property
    def repository(self) -> str: ...

    async def root(self) -> tuple[Descriptor, bytes]:
        """Return the descriptor of the name, and its bytes, compared with the digest."""
        ...

    async def document(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a manifest, an index or another small blob; compared."""
        ...

    async def bring(self, blob: Descriptor, store: Store, progress: Progress) -> None:
        """Have a blob in the store."""
        ...

    async def take(
        self,
        blob: Descriptor,
        store: Store,
        fetch: Fetch,
        near: Sequence[str],
        progress: Progress,
    ) -> None:
        """Have a blob here; *fetch* brings it into the store, *near* are repositories with it."""
        ...

    async def keep(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        """Keep a document, whose parts are here, under the place's name or by its digest only."""
        ...

    async def referrers(self, subject: Digest) -> list[Referrer]:
        """Return the manifests that refer to a manifest: signatures, bills of materials."""
        ...

    async def attach(self, referrer: Referrer, data: bytes) -> None:
        """Keep a manifest that refers to one that is here; its parts are."""
        ...


def place_of(text: str, client: Client) -> ImagePlace:
    """Read ``NAME`` or ``oci-layout://DIR[:TAG][@DIGEST]``.

    Raises:
        UsageError: neither.
    """
    if text.startswith(LAYOUT):
        return LayoutPlace(text.removeprefix(LAYOUT))
    try:
        return RepositoryPlace(Reference.parse(text), client)
    except ValueError as error:
        raise UsageError(str(error)) from error


class RepositoryPlace:
    """An image in a registry."""

    def __init__(self, reference: Reference, client: Client) -> None:
        self.reference = reference
        self.name = str(reference)
        self.repository = reference.repository
        self._client = client

    async def root(self) -> tuple[Descriptor, bytes]:
        return await self._client.manifest(self.reference)

    async def document(self, descriptor: Descriptor) -> bytes:
        from pybuild.registry.client.manifests import is_manifest_type

        if not is_manifest_type(descriptor.media_type):
            return await self._client.blob(self.reference, descriptor)
        return (await self._client.manifest(self.reference, descriptor))[1]

    async def bring(self, blob: Descriptor, store: Store, progress: Progress) -> None:
        await self._client.pull_blob(self.reference, blob, store.blobs, progress)

    async def take(
        self,
        blob: Descriptor,
        store: Store,
        fetch: Fetch,
        near: Sequence[str],
        progress: Progress,
    ) -> None:
        start = self.reference.host + "/"
        paths = [place.removeprefix(start) for place in near if place.startswith(start)]
        await self._client.push_blob(
            self.reference, blob, store.blobs, paths, progress, fetch=fetch
        )

    async def keep(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        target = self.reference
        if not named:
            target = Reference(target.host, target.path)
        await self._client.push_manifest(target, descriptor.media_type, data)

    async def referrers(self, subject: Digest) -> list[Referrer]:
        return await self._client.referrers(self.reference, subject)

    async def attach(self, referrer: Referrer, data: bytes) -> None:
        await self.keep(referrer.descriptor, data, named=False)


class LayoutPlace:
    """An image in an OCI layout directory; a new one is made where there is none yet."""

    repository = ""

    def __init__(self, text: str) -> None:
        self.name = LAYOUT + text
        self._text = text

    async def root(self) -> tuple[Descriptor, bytes]:
        path, tag, digest = parse_layout(self._text)
        self._layout = await asyncio.to_thread(LayoutDirectory, path)
        descriptor = await asyncio.to_thread(self._layout.find, tag, digest)
        return descriptor, await self.document(descriptor)

    async def document(self, descriptor: Descriptor) -> bytes:
        return await asyncio.to_thread(self._layout.read, descriptor, _MAX_DOCUMENT_BYTES)

    async def bring(self, blob: Descriptor, store: Store, progress: Progress) -> None:
        if not store.blobs.holds(blob):
            await asyncio.to_thread(self._layout.copy, blob, store)
        progress(str(blob.digest), blob.size, blob.size)

    async def take(
        self,
        blob: Descriptor,
        store: Store,
        fetch: Fetch,
        near: Sequence[str],
        progress: Progress,
    ) -> None:
        directory, _ = self._target()
        await asyncio.to_thread(check_layout, directory)
        place = os.path.join(directory, "blobs", blob.digest.algorithm, blob.digest.hex)
        if os.path.exists(place):
            return
        await fetch()
        await asyncio.to_thread(
            write_layout_blob, directory, blob, store.blobs.path, opened=make_output
        )

    async def keep(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        directory, tag = self._target()

        def write() -> None:
            check_layout(directory)
            _write_document(directory, descriptor.digest, data)
            if named:
                name_in_layout(directory, descriptor, tag, opened=make_output)

        await asyncio.to_thread(write)

    async def referrers(self, subject: Digest) -> list[Referrer]:
        """Look in the index's list: nothing else in a layout can be found by its subject."""
        path, _, _ = parse_layout(self._text)
        return await asyncio.to_thread(_referrers_in, LayoutDirectory(path), subject)

    async def attach(self, referrer: Referrer, data: bytes) -> None:
        directory, _ = self._target()
        await self.keep(referrer.descriptor, data, named=False)
        await asyncio.to_thread(list_in_layout, directory, referrer.to_json(), opened=make_output)

    def _target(self) -> tuple[str, str]:
        """The directory and tag to write to.

        Raises:
            UsageError: a digest is no name for what is yet to come.
        """
        path, tag, digest = parse_layout(self._text)
        if digest is not None:
            raise UsageError(f"{self.name}: an image cannot be named by a digest")
        return path, tag or "latest"


def _referrers_in(layout: LayoutDirectory, subject: Digest) -> list[Referrer]:
    from pybuild.registry.client.referrers import subject_of

    referrers: list[Referrer] = []
    for entry in layout.entries():
        referred = subject_of(layout.read(entry, _MAX_DOCUMENT_BYTES), entry.media_type)
        if referred is not None and referred[0] == subject:
            referrers.append(referred[1])
    return referrers


def _write_document(directory: str, digest: Digest, data: bytes) -> None:
    folder = os.path.join(directory, "blobs", digest.algorithm)
    os.close(make_output(folder))
    target = os.path.join(folder, digest.hex)
    with whole_file(target) as fd, open(fd, "wb", closefd=False) as file:
        file.write(data)
