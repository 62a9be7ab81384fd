"""Cache mounts in a cache's document, and the order of their chunks [MNT-14, CCH-11]."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest

from pybuild.image.cacheformat import mounts
from pybuild.image.cacheformat.config import CacheContents, write_config
from pybuild.image.cacheformat.merge import Retention, merged, united
from pybuild.image.cacheformat.mounts import (
    MOUNT_INDEX,
    MOUNT_PACK,
    PACK_BYTES,
    CachedMount,
    MountChunk,
    MountIndex,
    MountPack,
    arranged,
    read_index,
)
from pybuild.image.cacheformat.read import named_blobs, read_config
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault


def blob(text: str, media_type: str = MOUNT_PACK, size: int = 10) -> Descriptor:
    return Descriptor(media_type, Digest.of(text.encode()), size)


def mount(letter: str, used: float = 100.0) -> CachedMount:
    return CachedMount(
        name=letter * 40,
        id=f"/{letter}",
        size=5,
        saved=90.0,
        used=used,
        index=blob(f"index {letter}", MOUNT_INDEX),
        packs=(blob(f"pack {letter}"),),
    )


def cut(*chunks: tuple[str, int]) -> bytes:
    return b"".join(struct.pack(">32sI", name.encode().ljust(32), size) for name, size in chunks)


def test_mounts_are_read_as_they_were_written_and_their_blobs_are_named() -> None:
    contents = CacheContents(mounts=(mount("a"), mount("b")))
    data = write_config(contents)
    assert read_config(data) == contents
    assert {one.digest for each in contents.mounts for one in each.blobs} <= named_blobs(data)
    assert b"mounts" not in write_config(CacheContents())


@pytest.mark.parametrize(
    "broken", [b'"name":"x"', b'"name":"../../../../etc/passwdaaaaaaaaaaaaaaaaaaaa"', b'"nom":"a"']
)
def test_broken_mounts_are_none(broken: bytes) -> None:
    data = write_config(CacheContents(mounts=(mount("a"),)))
    name = b'"name":"' + b"a" * 40 + b'"'
    assert name in data
    assert read_config(data.replace(name, broken)).mounts == ()


def test_of_one_mount_the_own_counts_and_others_stay_while_they_are_used() -> None:
    own, theirs = replace(mount("a"), size=7), (mount("a"), mount("b"), mount("c", used=1.0))
    mine, there = CacheContents(mounts=(own,)), CacheContents(mounts=theirs)
    kept = merged(mine, there, Retention(max_age_s=50.0), now=120.0).mounts
    assert kept == (own, mount("b"))
    assert merged(mine, there, Retention(max_bytes=30), now=120.0).mounts == (own,)
    assert set(united([mine, there]).mounts) == {own, mount("b"), mount("c", used=1.0)}


def test_old_chunks_stay_in_their_packs_and_new_ones_follow_each_other() -> None:
    old = MountPack(blob("old"), 30)
    first, second = MountPack(blob("first"), 30), MountPack(blob("second"), 5)
    chunks = cut(("new", 10), ("kept", 9), ("more", 20), ("new", 10), ("last", 5))
    index = arranged(chunks, {b"kept".ljust(32): (old, 21)}, [first, second])
    assert [(one.digest.rstrip().decode(), one.pack, one.offset) for one in index.places()] == [
        ("new", 0, 0),
        ("kept", 1, 21),
        ("more", 0, 10),
        ("new", 0, 0),
        ("last", 2, 0),
    ]
    assert index.packs == (first, old, second)
    assert index.worth() == [1.0, 0.3, 1.0]
    packs = tuple(pack.blob for pack in index.packs)
    of = replace(mount("a"), packs=packs, size=10 + 9 + 20 + 10 + 5)
    assert read_index(index.encode(), of) == index


CHUNK = MountChunk(b"c".ljust(32), 10, 0, 0)
PACK = MountPack(blob("pack a"), 10)
OF = replace(mount("a"), size=10)


def document(*chunks: MountChunk, packs: tuple[MountPack, ...] = (PACK,)) -> bytes:
    return MountIndex(packs, b"".join(struct.pack(">32sIHI", *chunk) for chunk in chunks)).encode()


def with_head(text: str) -> bytes:
    return zlib.compress(text.encode() + b"\n" + struct.pack(">32sIHI", *CHUNK))


def test_an_index_that_tells_the_truth_is_read() -> None:
    assert list(read_index(document(CHUNK), OF).places()) == [CHUNK]


LIES = {
    "nothing": b"",
    "cut in its checksum": document(CHUNK)[:-2],
    "cut in its data": document(CHUNK)[:-9],
    "chunk behind its pack": document(CHUNK._replace(offset=1)),
    "chunk of no pack": document(CHUNK._replace(pack=1)),
    "pack of another mount": document(CHUNK, packs=(MountPack(blob("other"), 10),)),
    "pack too large": document(CHUNK, packs=(MountPack(blob("pack a"), 1 << 30),)),
    "record cut": MountIndex((PACK,), b"short").encode(),
    "less than the mount": document(CHUNK._replace(size=9)),
    "more than the mount": document(CHUNK, CHUNK),
    "no size of a pack": with_head(f'[["{PACK.blob.digest}", 10, 1e999]]'),
    "no size of a blob": with_head(f'[["{PACK.blob.digest}", 1e999, 10]]'),
    "no digest": with_head("[[7, 10, 10]]"),
    "no list": with_head('{"a": 1}'),
}


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_an_index_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(EnvironmentFault, match='broken index of cache mount "/a"'):
        read_index(data, OF)


@pytest.mark.parametrize("size", [PACK_BYTES + (PACK_BYTES >> 4) + 1, -1])
def test_no_pack_is_read_that_is_larger_than_packs_can_be(size: int) -> None:
    pack = MountPack(blob("pack a", size=size), 10)
    with pytest.raises(EnvironmentFault, match="a pack is too large"):
        read_index(document(CHUNK, packs=(pack,)), replace(OF, packs=(pack.blob,)))


def test_a_pack_that_no_chunk_needs_has_a_size_too() -> None:
    packs = PACK, MountPack(blob("pack b"), -1)
    of = replace(OF, packs=(PACK.blob, packs[1].blob))
    with pytest.raises(EnvironmentFault, match="a size that none has"):
        read_index(document(CHUNK, packs=packs), of)


def test_an_index_is_unpacked_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MAX_INDEX", 100)
    with pytest.raises(EnvironmentFault, match="no end, or is too large"):
        read_index(document(*[CHUNK] * 10), OF)
