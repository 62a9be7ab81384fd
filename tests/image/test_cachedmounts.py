"""Cache mounts in a cache's document, and the order of their chunks [MNT-14, CCH-11]."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from pybuild.image.cacheformat.config import CacheContents, write_config
from pybuild.image.cacheformat.merge import Retention, merged, united
from pybuild.image.cacheformat.mounts import (
    MOUNT_INDEX,
    MOUNT_PACK,
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
    of = replace(mount("a"), packs=tuple(pack.blob for pack in index.packs))
    assert read_index(index.encode(), of) == index


def test_an_index_that_lies_is_refused() -> None:
    pack = MountPack(blob("pack a"), 10)
    record = MountChunk(b"c".ljust(32), 10, 0, 0)

    def index(chunk: MountChunk, packs: tuple[MountPack, ...] = (pack,)) -> bytes:
        return MountIndex(packs, struct.pack(">32sIHI", *chunk)).encode()

    assert list(read_index(index(record), mount("a")).places()) == [record]
    for data in (
        b"",
        index(record)[:-9],
        index(record._replace(offset=1)),
        index(record._replace(pack=1)),
        index(record, (MountPack(blob("other"), 10),)),
        index(record, (MountPack(blob("pack a"), 1 << 30),)),
        MountIndex((pack,), b"short").encode(),
    ):
        with pytest.raises(EnvironmentFault, match='broken index of cache mount "/a"'):
            read_index(data, mount("a"))
