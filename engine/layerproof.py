"""Proof that a client may have a layer which the store got from somebody else.

A registry of the client's own may name any digest, and a manifest any diffID. So where a layer is
known from another place than the one that is named now, the client's place has to give its bytes:
they are compared and thrown away. The same place needs no proof but its answer, which the client
got with its own credentials.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import BinaryIO

from pybuild.cache.records.layers import delta_made_into, delta_of_layer, layer_facts
from pybuild.cache.store import Store
from pybuild.image.layer.compression import LayerSource
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.reference import Reference

_MOST_LAYER_BYTES = 1 << 38  # a bomb of more takes too long to defuse


class _Written:
    """A blob beside the store, of which only the digest is looked at."""

    def __init__(self, file: BinaryIO, expected: Digest | None) -> None:
        self._file = file
        self._expected = expected
        self._digest = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self._digest.update(data)
        self._file.write(data)

    def commit(self) -> None:
        actual = "sha256:" + self._digest.hexdigest()
        if self._expected is not None and actual != self._expected:
            raise UserError(f"blob {self._expected}: got {actual}")
        self._file.flush()


class SingleBlob:
    """A place for one blob, which has none before."""

    def __init__(self, path: str) -> None:
        self.path = path

    def has(self, digest: Digest, /) -> bool:
        return False

    @contextmanager
    def writer(self, expected: Digest | None, size: int | None) -> Generator[_Written]:
        with open(self.path, "wb") as file:
            yield _Written(file, expected)


Bring = Callable[[Descriptor, SingleBlob], Awaitable[None]]


def needs_proof(store: Store, diff_id: Digest, place: str) -> bool:
    """Return whether a layer came to the store from another place than *place*, or was made in it."""
    if delta_made_into(store.records, diff_id) is not None:
        return True
    known = layer_facts(store.records, delta_of_layer(diff_id))
    if known is None:
        return False
    return not place or place_of(known.reference, known.layout) != place


def place_of(reference: str, layout: str = "") -> str:
    """Return the repository that vouches for a layer; a client's layout vouches for nothing."""
    if layout or not reference:
        return ""
    return Reference.parse(reference).repository


async def prove(store: Store, layer: Descriptor, diff_id: Digest, bring: Bring) -> None:
    """Have the bytes of *layer* brought, and compare them with both digests.

    Raises:
        UserError: they are others; whatever *bring* raises.
    """
    path = store.scratch("proof")
    try:
        await bring(layer, SingleBlob(path))
        actual = await asyncio.to_thread(diff_id_of, path)
    finally:
        if os.path.lexists(path):
            await asyncio.to_thread(os.unlink, path)
    if actual != diff_id:
        raise UserError(f"layer {layer.digest}: its diffID is {actual}, not {diff_id}")


def diff_id_of(path: str) -> str:
    """Return the digest of a layer's tar, as the blob at *path* unpacks to it."""
    with open(path, "rb", buffering=0) as file:
        source = LayerSource(file.read, _MOST_LAYER_BYTES)
        source.drain()
        return source.diff_id
