"""A cache in a bucket: objects by name and digest, conditions on writes, and what may be deleted [CCH-5]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from pybuild.engine.engine import Engine
from pybuild.engine.progress import InternalStep
from pybuild.engine.settings import Settings
from pybuild.image.cacheformat.config import (
    CACHE_CONFIG,
    CacheContents,
    CachedLayer,
    CachedResult,
    write_config,
)
from pybuild.model.descriptor import OCI_LAYER, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.events import Event, VertexProgress
from pybuild.remotecache.place import ANY_CONTENT
from pybuild.remotecache.places.s3 import S3Cache
from pybuild.remotecache.places.s3bucket import Bucket, S3Fault, S3Object
from pybuild.remotecache.places.s3options import S3Place

DAY = 86400.0
NOW = 1_900_000_000.0
PLACE = S3Place(bucket="abc", names=("main", "other"), prefix="p/")
SAME = S3Place(bucket="abc", names=(), manifests_prefix="", blobs_prefix="")


class MemoryBucket:
    """The objects of a bucket: bytes and times by key; the etag is a count of writes."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, float, str]] = {}
        self.touched: list[str] = []
        self.gets = self.writes = 0
        self.status = 404
        self.cannot_touch = False
        self.aborted: list[tuple[str, float]] = []

    def write(self, key: str, data: bytes, age_s: float = 0.0) -> str:
        self.writes += 1
        self.objects[key] = data, NOW - age_s, f"e{self.writes}"
        return f"e{self.writes}"

    async def close(self) -> None:
        pass

    def _seen(self, key: str) -> S3Object:
        data, modified, etag = self.objects[key]
        return S3Object(key=key, size=len(data), modified=modified, etag=etag)

    async def head(self, key: str) -> S3Object | None:
        return self._seen(key) if key in self.objects else None

    async def get(self, key: str, limit: int) -> tuple[bytes, str]:
        self.gets += 1
        if key not in self.objects:
            raise S3Fault("no such object", status=self.status)
        data, _, etag = self.objects[key]
        assert len(data) <= limit
        return data, etag

    async def pieces(self, key: str, size: int) -> AsyncIterator[bytes]:
        data = self.objects[key][0]
        for at in range(0, size, 3):
            yield data[at : at + 3]

    async def put(self, key: str, data: bytes, expected: str | None) -> str | None:
        there = self.objects[key][2] if key in self.objects else ""
        if expected is not None and expected != there:
            return None
        return self.write(key, data)

    async def put_file(
        self, key: str, path: str, size: int, progress: Callable[[int], None]
    ) -> None:
        self.write(key, Path(path).read_bytes())
        progress(size)

    async def touch(self, key: str) -> None:
        if self.cannot_touch:
            raise S3Fault("no")
        self.touched.append(key)

    async def list(self, prefix: str, most: int, after: str = "") -> list[S3Object]:
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        return [self._seen(key) for key in keys[:most]]

    async def delete(self, key: str) -> None:
        del self.objects[key]

    async def abort_uploads(self, prefix: str, before: float) -> None:
        self.aborted.append((prefix, before))


class Clock:
    def now(self) -> float:
        return NOW


Work = Callable[[S3Cache, MemoryBucket, Engine], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Work], None]:
    async def opened(work: Work) -> None:
        async with Engine(Settings(root=str(tmp_path / "store")), clock=Clock()) as engine:
            bucket = MemoryBucket()
            assert engine.shared(SAME, lambda: cast("Bucket", bucket)) is cast("Bucket", bucket)
            await work(S3Cache(engine, PLACE), bucket, engine)

    return lambda work: asyncio.run(opened(work))


def contents(name: bytes) -> CacheContents:
    diff_id = Digest.of(b"diff " + name)
    layer = CachedLayer(diff_id=diff_id, blob=Descriptor(OCI_LAYER, Digest.of(name), len(name)))
    return CacheContents(
        {diff_id: layer}, (CachedResult(key=Digest.of(b"key " + name), layers=(diff_id,)),)
    )


ONE, TWO = write_config(contents(b"one")), write_config(contents(b"two"))
BLOB = Descriptor(OCI_LAYER, Digest.of(b"one"), 3)
KEY = f"p/blobs/{BLOB.digest}"


def test_all_names_are_read_together(run: Callable[[Work], None]) -> None:
    async def work(cache: S3Cache, bucket: MemoryBucket, _: Engine) -> None:
        with pytest.raises(UserError, match="^s3://abc/p/manifests/main;other: not found$"):
            await cache.root()
        bucket.write("p/manifests/other", ONE)
        assert await cache.root() == (Descriptor(CACHE_CONFIG, Digest.of(ONE), len(ONE)), ONE)
        bucket.write("p/manifests/main", TWO)
        root, data = await cache.root()
        assert root == Descriptor(CACHE_CONFIG, Digest.of(data), len(data))
        assert BLOB.digest in data.decode() and Digest.of(b"two") in data.decode()
        bucket.status = 403
        del bucket.objects["p/manifests/main"]
        with pytest.raises(S3Fault):
            await cache.root()

    run(work)


def test_a_blob_is_read_and_compared(run: Callable[[Work], None]) -> None:
    async def work(cache: S3Cache, bucket: MemoryBucket, _: Engine) -> None:
        bucket.write(KEY, b"one")
        assert await cache.read(BLOB, 10) == b"one"
        bucket.write(KEY, b"two")
        with pytest.raises(EnvironmentFault, match="is damaged"):
            await cache.read(BLOB, 10)

    run(work)


def test_a_blob_that_is_old_is_marked_as_wanted(run: Callable[[Work], None]) -> None:
    async def work(cache: S3Cache, bucket: MemoryBucket, _: Engine) -> None:
        assert not await cache.has(BLOB)
        bucket.write(KEY, b"cut"[:2])
        assert not await cache.has(BLOB)
        bucket.write(KEY, b"one", age_s=DAY)
        assert await cache.has(BLOB)
        assert bucket.touched == []
        bucket.write(KEY, b"one", age_s=DAY + 1)
        assert await cache.has(BLOB)
        assert bucket.touched == [KEY]
        bucket.cannot_touch = True
        assert not await cache.has(BLOB)

    run(work)


def test_a_blob_goes_there_and_comes_back(run: Callable[[Work], None]) -> None:
    async def work(cache: S3Cache, bucket: MemoryBucket, engine: Engine) -> None:
        events: list[Event] = []
        step = InternalStep(Digest.of(b""), events.append, engine.clock)
        data = b"seven b"
        blob = Descriptor(OCI_LAYER, engine.store.blobs.put(data), len(data))
        await cache.put(blob, step)
        assert bucket.objects[f"p/blobs/{blob.digest}"][0] == data
        engine.store.blobs.delete(blob.digest)
        events.clear()
        assert cache.place == {"layout": "s3://abc/p/"}
        await engine.images.lenders["s3://abc/p/"](blob, step)
        assert engine.store.blobs.read(blob.digest) == data
        assert [one.current for one in events if isinstance(one, VertexProgress)] == [3, 6, 7]

    run(work)


def test_what_is_named_is_read_again_when_it_has_changed(run: Callable[[Work], None]) -> None:
    async def work(cache: S3Cache, bucket: MemoryBucket, _: Engine) -> None:
        assert await cache.named() is None
        bucket.write("p/manifests/main", ONE)
        named = await cache.named()
        assert named is not None
        assert named.digest == Digest.of(ONE)
        assert await cache.named() == named
        assert await cache.read(named, 10_000) == ONE
        assert bucket.gets == 1
        bucket.write("p/manifests/main", TWO)
        other = await cache.named()
        assert other is not None
        assert other.digest == Digest.of(TWO)

    run(work)


def test_a_name_is_written_where_it_is_as_expected(run: Callable[[Work], None]) -> None:
    one, two = (Descriptor(CACHE_CONFIG, Digest.of(data), len(data)) for data in (ONE, TWO))

    async def work(cache: S3Cache, bucket: MemoryBucket, _: Engine) -> None:
        assert await cache.finish(one, ONE, None)
        assert {key: value[0] for key, value in bucket.objects.items()} == {
            "p/manifests/main": ONE,
            "p/manifests/other": ONE,
        }
        assert await cache.named() == one
        assert bucket.gets == 0
        assert not await cache.finish(two, TWO, None)
        assert await cache.finish(two, TWO, one.digest)
        bucket.write("p/manifests/main", ONE)
        assert not await cache.finish(one, ONE, two.digest)
        assert await cache.finish(two, TWO, ANY_CONTENT)

    run(work)


def test_old_names_and_blobs_that_nothing_names_are_deleted(run: Callable[[Work], None]) -> None:
    async def work(cache: S3Cache, bucket: MemoryBucket, _: Engine) -> None:
        old, unnamed = 30 * DAY, Digest.of(b"unnamed")
        bucket.write("p/manifests/main", ONE, old)
        bucket.write("p/manifests/stale", TWO, old)
        bucket.write("p/manifests/young", write_config(contents(b"three")), 9 * DAY)
        named = [Digest.of(b"one"), Digest.of(b"three")]
        for digest in (*named, Digest.of(b"two"), unnamed):
            bucket.write(f"p/blobs/{digest}", b"x", old)
        bucket.write("p/blobs/wanted", b"x", 2 * DAY)
        bucket.write("q/blobs/other", b"x", old)
        assert await cache.collect(10 * DAY) == 3
        assert set(bucket.objects) == {
            "p/manifests/main",
            "p/manifests/young",
            *(f"p/blobs/{digest}" for digest in named),
            "p/blobs/wanted",
            "q/blobs/other",
        }
        assert bucket.aborted == [("p/blobs/", NOW - 2 * DAY)]
        assert await cache.collect(1.0) == 2  # two days at least, and its blob

    run(work)


def test_where_there_are_too_many_names_nothing_is_deleted(run: Callable[[Work], None]) -> None:
    async def work(cache: S3Cache, bucket: MemoryBucket, _: Engine) -> None:
        for number in range(1000):
            bucket.write(f"p/manifests/{number}", ONE, 30 * DAY)
        assert await cache.collect(DAY) == 0
        assert len(bucket.objects) == 1000

    run(work)
