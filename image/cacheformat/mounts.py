"""Cache mounts as a build's cache carries them: packs of chunks, and an index that puts these in order [MNT-14].

A mount is one tar, cut into chunks by its content. The chunks lie in packs, which are written once; a
mount that is saved again has packs of old chunks and packs of new ones. Its entry in the cache's document
names them all, so that whoever collects garbage there sees what is needed. Pure.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pybuild.image.config import format_time, parse_time
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault

MOUNT_INDEX = "application/vnd.pybuild.cachemount.index.v1"
MOUNT_PACK = "application/vnd.pybuild.cachemount.pack.v1+zstd"
PACK_BYTES = 16 << 20
"""The most that a pack holds, before it is compressed."""
_MOST_PACK_BLOB = PACK_BYTES + (PACK_BYTES >> 4)
"""The most that a compressed pack has: what cannot be compressed grows by less than a thousandth."""
MAX_INDEX = 64 << 20
MOST_MOUNTS = 1000
MOST_PACKS = 4096
_BROKEN = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
_PLACE = struct.Struct(">32sIHI")
_CUT = struct.Struct(">32sI")


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedMount:
    """One cache mount at a place.

    Attributes:
        name: of its directory, the same on all machines (`executor.steps.cachemounts.name_of`).
        id: for people.
        size: of the tar.
        saved, used: by a build, seconds since the epoch.
    """

    name: str
    id: str
    size: int
    saved: float
    used: float
    index: Descriptor
    packs: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.index, *self.packs)


class MountPack(NamedTuple):
    """A pack of a mount; *size* that of its chunks."""

    blob: Descriptor
    size: int


class MountChunk(NamedTuple):
    """One piece of a mount's tar, by where it lies."""

    digest: bytes
    size: int
    pack: int
    offset: int


@dataclass(frozen=True, slots=True)
class MountIndex:
    """The order of a mount's chunks; *records* as `places` reads them."""

    packs: tuple[MountPack, ...]
    records: bytes

    def places(self) -> Iterator[MountChunk]:
        """Yield the chunks in order."""
        return map(MountChunk._make, _PLACE.iter_unpack(self.records))

    def worth(self) -> list[float]:
        """Return for each pack the share of it that some chunk needs."""
        needed = [0] * len(self.packs)
        counted: set[int] = set()
        for _, size, pack, offset in _PLACE.iter_unpack(self.records):
            place = pack << 32 | offset
            if place not in counted:
                counted.add(place)
                needed[pack] += size
        return [live / max(pack.size, 1) for live, pack in zip(needed, self.packs, strict=True)]

    def encode(self) -> bytes:
        """Return the document; equal indexes give equal bytes."""
        head = [[pack.blob.digest, pack.blob.size, pack.size] for pack in self.packs]
        return zlib.compress(json.dumps(head).encode() + b"\n" + self.records, 6)


def read_index(data: bytes, mount: CachedMount) -> MountIndex:
    """Read a document of `MountIndex.encode`.

    Raises:
        EnvironmentFault: it is broken, or names packs that *mount* does not have.
    """
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, MAX_INDEX)
        if not unpacker.eof:
            raise ValueError("it has no end, or is too large")
        head, _, records = plain.partition(b"\n")
        packs = tuple(
            MountPack(_blob(MOUNT_PACK, digest, size), int(raw))
            for digest, size, raw in json.loads(head)
        )
        index = MountIndex(packs, records)
        if tuple(pack.blob for pack in packs) != mount.packs:
            raise ValueError("its packs are others")
        if any(not 0 <= pack.size <= PACK_BYTES for pack in packs):
            raise ValueError("a pack has a size that none has")
        if any(not 0 <= pack.blob.size <= _MOST_PACK_BLOB for pack in packs):
            raise ValueError("a pack is too large")
        size = 0
        for chunk in index.places():
            if chunk.offset + chunk.size > packs[chunk.pack].size:
                raise ValueError("a chunk lies outside of its pack")
            size += chunk.size
        if size != mount.size:
            raise ValueError("its chunks are not as large as the mount")
        return index
    except (*_BROKEN, zlib.error, struct.error) as error:
        raise EnvironmentFault(f'broken index of cache mount "{mount.id}": {error}') from error


def arranged(
    chunks: bytes, old: Mapping[bytes, tuple[MountPack, int]], new: Sequence[MountPack]
) -> MountIndex:
    """Return the index of a mount that was cut into *chunks*.

    Args:
        chunks: digest and size of each, in the tar's order.
        old: packs that are kept, by the digests of their chunks, with the offsets there.
        new: packs of all other chunks, in the order in which these come first.
    """
    packs: dict[MountPack, int] = {}
    places = dict(old)
    records = bytearray()
    fresh, offset = 0, 0
    for digest, size in _CUT.iter_unpack(chunks):
        if digest not in places:
            if offset + size > new[fresh].size:
                fresh, offset = fresh + 1, 0
            places[digest] = new[fresh], offset
            offset += size
        pack, at = places[digest]
        number = packs.setdefault(pack, len(packs))
        records += _PLACE.pack(digest, size, number, at)
    return MountIndex(tuple(packs), bytes(records))


def mount_entries(mounts: Iterable[CachedMount]) -> list[dict[str, Any]]:
    """Return the mounts as the cache's document has them."""
    return [
        {
            "name": mount.name,
            "id": mount.id,
            "size": mount.size,
            "savedAt": format_time(int(mount.saved)),
            "usedAt": format_time(int(mount.used)),
            "index": [mount.index.digest, mount.index.size],
            "packs": [[pack.digest, pack.size] for pack in mount.packs],
        }
        for mount in sorted(mounts, key=lambda one: one.name)
    ]


def read_mounts(items: Any) -> tuple[CachedMount, ...]:
    """Read the mounts of a document; none where they are broken: a cache is good without them."""
    try:
        if len(items) > MOST_MOUNTS:
            return ()
        return tuple(_read_mount(item) for item in items)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ()


def _read_mount(item: Any) -> CachedMount:
    index, packs = item["index"], item["packs"]
    name = str(item["name"])
    if len(packs) > MOST_PACKS or not (name.isalnum() and name.isascii() and len(name) == 40):
        raise ValueError(name)
    return CachedMount(
        name=name,
        id=str(item["id"])[:1000],
        size=int(item["size"]),
        saved=parse_time(str(item["savedAt"])) or 0.0,
        used=parse_time(str(item["usedAt"])) or 0.0,
        index=_blob(MOUNT_INDEX, *index),
        packs=tuple(_blob(MOUNT_PACK, *pack) for pack in packs),
    )


def _blob(media_type: str, digest: Any, size: Any) -> Descriptor:
    return Descriptor(media_type, Digest.parse(str(digest)), int(size))
