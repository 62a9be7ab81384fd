"""Many write to one place, and nobody's results are lost [CCH-11]."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

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
from pybuild.image.manifest import parse_manifest
from pybuild.model.descriptor import (
    DOCKER_INDEX,
    DOCKER_LAYER,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError
from pybuild.net.http1.faults import HttpFault
from pybuild.remotecache.options import CacheTo, cache_to
from pybuild.remotecache.place import ANY_CONTENT
from pybuild.remotecache.publisher import Publisher
from pybuild.remotecache.reader import read_cache
from tests.remotecache.memoryplace import MemoryPlace

MAX = {"ref": "a/b:t", "mode": "max"}


def contents(name: bytes, media_type: str = OCI_LAYER) -> CacheContents:
    diff_id = Digest.of(b"diff " + name)
    blob = Descriptor(media_type, Digest.of(b"blob " + name), 7)
    layer = CachedLayer(diff_id=diff_id, blob=blob)
    result = CachedResult(key=key(name), layers=(diff_id,), used=time.time())
    return CacheContents({diff_id: layer}, (result,))


def key(name: bytes) -> Digest:
    return Digest.of(b"key " + name)


MINE, THEIRS, OTHERS = contents(b"mine"), contents(b"theirs"), contents(b"others")


def run(
    tmp_path: Path,
    place: MemoryPlace,
    work: Callable[[Publisher, InternalStep], Awaitable[None]],
    option: CacheTo | None = None,
) -> None:
    async def opened() -> None:
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            to = option or cache_to("registry", MAX)
            step = InternalStep(Digest.of(b""), lambda _: None, engine.clock)
            await work(Publisher(engine, to, place, {}), step)

    asyncio.run(opened())


def keys_at(place: MemoryPlace) -> set[Digest]:
    return {result.key for result in asyncio.run(read_cache(place, {})).results}


def theirs(place: MemoryPlace, other: CacheContents = THEIRS) -> Descriptor:
    """A cache of somebody else, as a config that is named by itself."""
    return place.add(write_config(other), CACHE_CONFIG)


def published(
    tmp_path: Path, place: MemoryPlace, option: CacheTo | None = None, mine: CacheContents = MINE
) -> None:
    async def work(publisher: Publisher, step: InternalStep) -> None:
        assert not publisher.has_written
        made = await publisher.publish(mine, step)
        assert publisher.has_written
        assert made == place.name

    run(tmp_path, place, work, option)


@pytest.fixture
def place() -> MemoryPlace:
    # Config and layers alone: then what is written can be read back.
    return MemoryPlace(has_manifests=False)


def test_an_empty_place_gets_ours(tmp_path: Path, place: MemoryPlace) -> None:
    published(tmp_path, place)
    assert (keys_at(place), place.expected) == ({key(b"mine")}, [None])


def test_what_others_have_named_stays_beside_ours(tmp_path: Path, place: MemoryPlace) -> None:
    place.name = named = theirs(place)
    published(tmp_path, place)
    assert keys_at(place) == {key(b"mine"), key(b"theirs")}
    assert place.expected == [named.digest]


def test_who_is_overtaken_looks_again(tmp_path: Path, place: MemoryPlace) -> None:
    place.name = theirs(place)
    place.rivals = [theirs(place, OTHERS)]
    published(tmp_path, place)
    assert keys_at(place) == {key(b"mine"), key(b"others")}


@pytest.mark.parametrize("is_shared", [False, True])
def test_who_does_not_merge_writes_over_all(
    tmp_path: Path, place: MemoryPlace, is_shared: bool
) -> None:
    place.name, place.is_shared = theirs(place), is_shared
    published(tmp_path, place, cache_to("registry", {**MAX, "merge": "false"}))
    assert (keys_at(place), place.expected) == ({key(b"mine")}, [ANY_CONTENT])


def test_a_broken_cache_is_written_over_and_one_that_is_out_of_reach_is_not(
    tmp_path: Path, place: MemoryPlace
) -> None:
    place.name = place.add(b"{", CACHE_CONFIG)
    published(tmp_path, place)
    assert keys_at(place) == {key(b"mine")}
    place.name = theirs(place)
    place.faults["read"] = HttpFault("no answer")
    with pytest.raises(HttpFault, match="no answer"):
        published(tmp_path, place)


def test_what_is_named_already_is_not_written_again(tmp_path: Path, place: MemoryPlace) -> None:
    async def work(publisher: Publisher, step: InternalStep) -> None:
        first = await publisher.publish(MINE, step)
        assert await publisher.publish(MINE, step) == first
        assert place.written == [first]
        await publisher.publish(OTHERS, step)
        assert len(place.written) == 2

    run(tmp_path, place, work)
    assert keys_at(place) == {key(b"mine"), key(b"others")}


def refused(tmp_path: Path, place: MemoryPlace, error: PybuildError) -> None:
    place.faults["finish"] = error
    published(tmp_path, place)


def test_where_others_layers_are_lost_ours_are_named_alone(
    tmp_path: Path, place: MemoryPlace
) -> None:
    place.name = theirs(place)
    refused(tmp_path, place, HttpFault("a layer is gone", status=404))
    assert keys_at(place) == {key(b"mine")}


@pytest.mark.parametrize("status", [0, 399, 500])
def test_another_refusal_is_an_error(tmp_path: Path, place: MemoryPlace, status: int) -> None:
    place.name = theirs(place)
    with pytest.raises(HttpFault):
        refused(tmp_path, place, HttpFault("x", status=status))


def test_a_refusal_of_ours_alone_is_an_error(tmp_path: Path, place: MemoryPlace) -> None:
    with pytest.raises(HttpFault):
        refused(tmp_path, place, HttpFault("x", status=404))


@pytest.mark.parametrize(
    ("attrs", "media_type", "annotations"),
    [
        ({}, OCI_MANIFEST, {"org.opencontainers.image.ref.name": "t"}),
        ({"image-manifest": "false"}, OCI_INDEX, {"org.opencontainers.image.ref.name": "t"}),
        ({"oci-mediatypes": "false"}, DOCKER_INDEX, {}),
    ],
)
def test_the_document_is_of_the_kind_that_is_to_be(
    tmp_path: Path, attrs: dict[str, str], media_type: str, annotations: dict[str, str]
) -> None:
    place = MemoryPlace()
    published(tmp_path, place, cache_to("registry", {**MAX, **attrs}))
    assert place.name is not None
    assert place.name.media_type == media_type
    document = parse_manifest(place.blobs[place.name.digest], media_type)
    assert document.annotations == annotations
    layers = document.raw.get("layers") or document.raw["manifests"][:-1]
    config = document.raw.get("config") or document.raw["manifests"][-1]
    expected = DOCKER_LAYER if media_type == DOCKER_INDEX else OCI_LAYER
    assert [one["mediaType"] for one in layers] == [expected]
    assert config["mediaType"] == CACHE_CONFIG
    assert config["digest"] in place.blobs


def confirmed(
    tmp_path: Path, place: MemoryPlace, *, merge: bool = True, writes: bool = True
) -> None:
    async def work(publisher: Publisher, step: InternalStep) -> None:
        if writes:
            await publisher.publish(MINE, step)
        place.name = theirs(place)  # of one who looked before we wrote
        await publisher.confirm(MINE, step)

    run(tmp_path, place, work, cache_to("registry", {**MAX, "merge": str(merge).lower()}))


def test_who_was_missed_by_another_names_again(
    tmp_path: Path, place: MemoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    place.is_exact = False
    confirmed(tmp_path, place)
    assert keys_at(place) == {key(b"mine"), key(b"theirs")}
    assert len(pauses) == 2  # once more, to see that it stays
    assert all(0.1 <= seconds for seconds in pauses)


@pytest.mark.parametrize(
    ("is_exact", "merge", "writes"),
    [(True, True, True), (False, False, True), (False, True, False)],
)
def test_nothing_is_confirmed_where_nobody_can_be_missed(
    tmp_path: Path, place: MemoryPlace, is_exact: bool, merge: bool, writes: bool
) -> None:
    place.is_exact = is_exact
    confirmed(tmp_path, place, merge=merge, writes=writes)
    assert keys_at(place) == {key(b"theirs")}


def test_it_is_not_tried_for_ever(
    tmp_path: Path, place: MemoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    place.rivals = [theirs(place, contents(b"%d" % n)) for n in range(50)]
    with pytest.raises(EnvironmentFault, match="others write to this cache all the time") as caught:
        published(tmp_path, place)
    assert caught.value.hints == ("use more tags",)
    assert (len(pauses), len(place.rivals)) == (20, 30)
    assert all(0 <= seconds <= 1.0 for seconds in pauses)
