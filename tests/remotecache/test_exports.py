"""Places that fail cost a warning where that is allowed, and an error where it is not [CCH-12]."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.cache.records.layers import keep_layer
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.image.cacheformat.config import (
    CACHE_CONFIG,
    CacheContents,
    CachedResult,
    write_config,
)
from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.events import BuildWarning, Event, VertexLog
from pybuild.model.layerfacts import LayerFacts
from pybuild.remotecache.export import export_caches, target_of, usable_targets, writer_of
from pybuild.remotecache.imports import import_caches, source_of
from pybuild.remotecache.options import CacheTo, cache_from, cache_to
from pybuild.remotecache.places.directory import DirectoryCache
from pybuild.remotecache.places.registry import RegistryCache
from pybuild.remotecache.reader import read_cache
from pybuild.remotecache.results import StepResult
from tests.remotecache.memoryplace import MemoryPlace

KEY, ALIAS = Digest.of(b"key"), Digest.of(b"alias")
LINK = CachedResult(key=KEY, aliases=(ALIAS,))
FAULT = EnvironmentFault("it is away")


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Engine], Awaitable[None]]], None]:
    async def opened(work: Callable[[Engine], Awaitable[None]]) -> None:
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            await work(engine)

    return lambda work: asyncio.run(opened(work))


Run = Callable[[Callable[[Engine], Awaitable[None]]], None]


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, BuildWarning)]


def said(events: list[Event]) -> list[str]:
    return [event.data.decode().strip() for event in events if isinstance(event, VertexLog)]


def full() -> MemoryPlace:
    place = MemoryPlace(has_manifests=False)
    place.name = place.add(write_config(CacheContents({}, (LINK,))), CACHE_CONFIG)
    return place


def test_each_kind_of_place_has_its_own(run: Run, tmp_path: Path) -> None:
    async def work(engine: Engine) -> None:
        to_registry = target_of(engine, cache_to("registry", {"ref": "a/b"}))
        assert isinstance(to_registry, RegistryCache)
        assert to_registry.place == {"reference": "docker.io/a/b:latest"}
        to_directory = target_of(engine, cache_to("local", {"dest": "/c"}))
        assert isinstance(to_directory, DirectoryCache)
        assert to_directory.place == {"layout": "/c"}
        assert isinstance(source_of(engine, cache_from("registry", {"ref": "a/b"})), RegistryCache)
        assert isinstance(source_of(engine, cache_from("local", {"src": "/c"})), DirectoryCache)

    run(work)


def test_an_import_that_fails_leaves_the_others(run: Run) -> None:
    async def work(engine: Engine) -> None:
        events: list[Event] = []
        away, there = MemoryPlace(faults={"root": FAULT}), full()
        option = cache_from("registry", {"ref": "a/b"})
        found = await import_caches(engine, [(option, away), (option, there)], {}, events.append)
        assert [cache.name for cache in found] == ["docker.io/a/b:latest"]
        assert found[0].alias(ALIAS) == KEY
        assert warnings(events) == ["cannot import the cache from docker.io/a/b:latest: it is away"]
        assert said(events) == ["not imported: it is away", "1 results in 0 layers"]

    run(work)


@pytest.mark.parametrize(
    ("may_be_empty", "error", "is_warned"),
    [
        (True, UserError("nothing yet"), False),
        (True, FAULT, True),
        (False, UserError("nothing yet"), True),
    ],
)
def test_nobody_is_warned_of_a_cache_that_may_be_empty(
    run: Run, may_be_empty: bool, error: PybuildError, is_warned: bool
) -> None:
    async def work(engine: Engine) -> None:
        events: list[Event] = []
        option = replace(
            cache_from("registry", {"ref": "a/b"}), may_be_empty=may_be_empty, meant="./b"
        )
        place = MemoryPlace(faults={"root": error})
        assert await import_caches(engine, [(option, place)], {}, events.append) == []
        assert bool(warnings(events)) == is_warned
        assert all(text.endswith("(did you mean ./b?)") for text in warnings(events))

    run(work)


def test_a_place_that_cannot_be_written_is_left_out_or_fails() -> None:
    events: list[Event] = []
    away, there = MemoryPlace(faults={"check": FAULT}), MemoryPlace()
    must = cache_to("local", {"dest": "/must"})
    may = cache_to("local", {"dest": "/may", "ignore-error": "true"})
    inline = cache_to("inline", {})
    places = {"/may": away, "/must": there}
    exports = [inline, may, must]
    found = asyncio.run(usable_targets(exports, lambda to: places[to.dest], events.append))
    assert found == [(must, there)]
    assert warnings(events) == ["the cache will not be exported: it is away"]

    def nowhere(to: CacheTo) -> MemoryPlace:
        raise FAULT

    assert asyncio.run(usable_targets([may], nowhere, events.append)) == []
    there.faults["check"] = FAULT
    with pytest.raises(EnvironmentFault, match="^it is away$"):
        asyncio.run(usable_targets([must], lambda _: there, events.append))


DATA = gzip.compress(b"\0" * 1024, mtime=0)
LAYER = Descriptor(OCI_LAYER_GZIP, Digest.of(DATA), len(DATA))
DIFF_ID = Digest.of(b"\0" * 1024)
DELTA = "sha256-" + DIFF_ID.hex
STEP = StepResult(key=KEY, deltas=(DELTA,), name="x")
MIN = cache_to("local", {"dest": "/c"})
MAX = cache_to("local", {"dest": "/c", "mode": "max"})


def exported(
    run: Run,
    *places: MemoryPlace,
    stacks: tuple[tuple[str, ...], ...] = (),
    results: tuple[StepResult, ...] = (STEP,),
    option: CacheTo = MIN,
) -> tuple[list[Event], Descriptor | None]:
    """Export a result of one layer that is in the store; the events, and the manifest."""
    events: list[Event] = []
    made: list[Descriptor | None] = []

    async def work(engine: Engine) -> None:
        engine.store.blobs.put(DATA)
        facts = LayerFacts(diff_id=DIFF_ID, descriptor=LAYER)
        keep_layer(engine.store.records, DELTA, facts)
        writers = [writer_of(engine, option, place, {}) for place in places]
        try:
            made.append(await export_caches(engine, writers, results, stacks, events.append))
        finally:
            for writer in writers:
                await writer.close()

    run(work)
    return events, made[0]


def test_a_layer_goes_there_and_is_named(run: Run) -> None:
    place = MemoryPlace(has_manifests=False)
    events, made = exported(run, place, option=MAX)
    assert place.written == [made]
    assert LAYER.digest in place.blobs
    (found,) = asyncio.run(read_cache(place, {})).results
    assert (found.key, found.layers, found.name) == (KEY, (DIFF_ID,), "x")
    assert said(events) == ["deleted 3 old objects"]


def test_what_is_there_already_is_not_sent(run: Run) -> None:
    place = MemoryPlace()
    place.blobs[LAYER.digest] = b"there"
    _, made = exported(run, place, option=MAX)
    assert made is not None
    assert place.blobs[LAYER.digest] == b"there"


def test_an_export_of_nothing_writes_nothing(run: Run) -> None:
    for results in ((), (StepResult(key=KEY, aliases=(ALIAS,)),)):
        place = MemoryPlace()
        events, made = exported(run, place, results=results, option=MAX)
        assert (made, place.written) == (None, [])
        assert said(events) == ["skipping cache export for empty result"]


def test_the_least_mode_takes_the_layers_of_the_result(run: Run) -> None:
    assert exported(run, MemoryPlace())[1] is None
    assert exported(run, MemoryPlace(), stacks=((DELTA, "other"),))[1] is not None


def test_a_fault_is_a_warning_or_an_error(run: Run) -> None:
    def broken() -> MemoryPlace:
        return MemoryPlace(faults={"finish": FAULT})

    there = MemoryPlace()
    events, made = exported(run, broken(), there, option=replace(MAX, ignore_error=True))
    assert warnings(events) == ["the cache was not exported: it is away"]
    assert made == there.name is not None
    with pytest.raises(EnvironmentFault, match="^it is away$"):
        exported(run, broken(), option=MAX)


def test_old_objects_that_cannot_be_deleted_fail_nothing(run: Run) -> None:
    place = MemoryPlace(faults={"collect": FAULT})
    events, made = exported(run, place, option=MAX)
    assert made is not None
    assert said(events) == ["nothing old was deleted: it is away"]
    events, _ = exported(run, MemoryPlace(), stacks=((DELTA,),))
    assert said(events) == []  # who does not merge leaves nothing old


def test_the_manifest_of_a_place_that_is_named_elsewhere_is_returned(run: Run) -> None:
    first, second, third = MemoryPlace(), MemoryPlace(is_named_by_others=True), MemoryPlace()
    second.has_manifests = False
    assert exported(run, first, second, third, option=MAX)[1] == second.name != third.name
    assert exported(run, MemoryPlace(has_manifests=False), third, option=MAX)[1] == third.name
