"""A cache in a directory: blobs that are wanted, names that are taken, and what is swept [CCH-3]."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.engine.engine import Engine
from pybuild.engine.progress import InternalStep
from pybuild.engine.settings import Settings
from pybuild.model.descriptor import OCI_INDEX, OCI_LAYER, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.remotecache.place import ANY_CONTENT
from pybuild.remotecache.places.directory import DirectoryCache
from tests.clocks import FakeClock

NOW = 1_900_000_000.0
Work = Callable[[Engine, Path], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Work], None]:
    async def opened(work: Work) -> None:
        settings = Settings(root=str(tmp_path / "store"))
        async with Engine(settings, clock=FakeClock(NOW)) as engine:
            await work(engine, tmp_path / "cache")

    return lambda work: asyncio.run(opened(work))


def index(engine: Engine, number: int) -> tuple[Descriptor, bytes]:
    """An index in the store; each number's is another."""
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": {"n": str(number)},
    }
    data = json.dumps(body).encode()
    return Descriptor(OCI_INDEX, engine.store.blobs.put(data), len(data)), data


def test_a_blob_is_written_once_and_damage_is_written_over(run: Callable[[Work], None]) -> None:
    async def work(engine: Engine, path: Path) -> None:
        cache = DirectoryCache(engine, str(path))
        step = InternalStep(Digest.of(b""), lambda _: None, engine.clock)
        blob = Descriptor(OCI_LAYER, engine.store.blobs.put(b"layer"), 5)
        file = path / "blobs/sha256" / blob.digest.hex
        assert not await cache.has(blob)
        await cache.put(blob, step)
        assert file.read_bytes() == b"layer"
        os.utime(file, (0, 0))
        assert await cache.has(blob)
        assert file.stat().st_mtime > 0  # whoever sweeps sees that it is wanted
        file.write_bytes(b"wrong")
        engine.images.damaged.add((str(path), blob.digest))
        assert not await cache.has(blob)
        await cache.put(blob, step)
        assert file.read_bytes() == b"layer"
        assert await cache.has(blob)
        file.write_bytes(b"cut")
        assert not await cache.has(blob)

    run(work)


def test_a_name_is_taken_where_it_is_as_expected(run: Callable[[Work], None]) -> None:
    async def work(engine: Engine, path: Path) -> None:
        cache = DirectoryCache(engine, str(path))
        (one, first), (two, second) = index(engine, 1), index(engine, 2)
        assert await cache.named() is None
        assert not await cache.finish(one, first, two.digest)
        assert await cache.finish(one, first, None)
        assert not await cache.finish(two, second, None)
        named = await cache.named()
        assert named is not None
        assert named.digest == one.digest
        assert await cache.finish(two, second, one.digest)
        assert await cache.finish(one, first, ANY_CONTENT)
        root, data = await cache.root()
        assert (root.digest, data) == (one.digest, first)
        assert await cache.read(one, 1000) == first

    run(work)


def test_tags_tell_the_caches_of_a_directory_apart(run: Callable[[Work], None]) -> None:
    async def work(engine: Engine, path: Path) -> None:
        tagged, latest = (DirectoryCache(engine, str(path), tag) for tag in ("t", ""))
        (one, first), (two, second) = index(engine, 1), index(engine, 2)
        assert await tagged.finish(one, first, None)
        assert await latest.finish(two, second, None)
        assert (await tagged.root())[0].digest == one.digest
        assert (await latest.root())[0].digest == two.digest
        by_digest = DirectoryCache(engine, str(path), "none", one.digest)
        assert (await by_digest.root())[0].digest == one.digest
        with pytest.raises(UserError, match='no image with the tag "none": it has latest, t'):
            await DirectoryCache(engine, str(path), "none").root()

    run(work)


def test_what_nobody_wanted_for_an_hour_is_swept(run: Callable[[Work], None]) -> None:
    async def work(engine: Engine, path: Path) -> None:
        cache = DirectoryCache(engine, str(path))
        (one, first), (two, second), (three, third) = (index(engine, n) for n in (1, 2, 3))
        for made, data in ((one, first), (two, second), (three, third)):
            await cache.finish(made, data, ANY_CONTENT)
        for made, age_s in ((one, 3601), (two, 3599), (three, 3601)):
            os.utime(path / "blobs/sha256" / made.digest.hex, (0, NOW - age_s))
        assert await cache.collect(0.0) == 1
        assert sorted(os.listdir(path / "blobs/sha256")) == sorted(
            [two.digest.hex, three.digest.hex]
        )

    run(work)


def test_a_directory_of_something_else_is_refused(run: Callable[[Work], None]) -> None:
    async def work(engine: Engine, path: Path) -> None:
        cache = DirectoryCache(engine, str(path))
        await cache.check()
        path.mkdir()
        (path / "mine").touch()
        with pytest.raises(UserError):
            await cache.check()

    run(work)
