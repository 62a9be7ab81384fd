"""One build's caches from its first step to its end, whichever way it ends [CCH-10]."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from pybuild.cache.records.layers import keep_layer
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.engine.solve import solve
from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.events import Emit, Event, VertexCompleted
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.snapshot import Result, Snapshot
from pybuild.remotecache.options import CacheTo, cache_to
from pybuild.remotecache.reader import read_cache
from pybuild.remotecache.session import CacheSession, open_cache_session
from pybuild.solver.solution import Solution
from tests.remotecache.memoryplace import MemoryPlace
from tests.solver.builders import run, scratch
from tests.solver.fakes import FakeRunner

DATA = gzip.compress(b"\0" * 1024, mtime=0)
DIFF_ID = Digest.of(b"\0" * 1024)
LAYER = Descriptor(OCI_LAYER_GZIP, Digest.of(DATA), len(DATA))
DELTA = "sha256-" + DIFF_ID.hex
MAKE = run("make", scratch())
MAX = cache_to("local", {"dest": "/c", "mode": "max"})


class Runner(FakeRunner):
    """Makes one layer that is in the store."""

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        return Snapshot() if isinstance(vertex.op, ScratchSource) else Snapshot((DELTA,))


class Build:
    """A build of `MAKE` whose cache goes to a place in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = MemoryPlace(has_manifests=False)
        self.events: list[Event] = []

    def __call__(
        self,
        options: Sequence[CacheTo],
        work: Callable[[CacheSession, Solution], Awaitable[None]],
    ) -> None:
        asyncio.run(self._build(options, work))

    async def _build(
        self,
        options: Sequence[CacheTo],
        work: Callable[[CacheSession, Solution], Awaitable[None]],
    ) -> None:
        emit = self.events.append
        async with Engine(Settings(root=str(self.path / "store"))) as engine:
            engine.store.blobs.put(DATA)
            facts = LayerFacts(diff_id=DIFF_ID, descriptor=LAYER)
            keep_layer(engine.store.records, DELTA, facts)
            session = await open_cache_session(
                engine, options, emit, memo={}, find=lambda _: self.place
            )
            progress = session.follow([MAKE])
            solution = await solve(engine, [MAKE], Runner(), emit, whole=False, progress=progress)
            await work(session, solution)

    @property
    def keys(self) -> list[Digest]:
        return [result.key for result in asyncio.run(read_cache(self.place, {})).results]

    @property
    def is_done(self) -> bool:
        return any(
            isinstance(event, VertexCompleted) and event.vertex == MAKE.digest
            for event in self.events
        )


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_without_a_cache_nothing_is_followed_or_written(build: Build) -> None:
    async def work(session: CacheSession, solution: Solution) -> None:
        assert session.follow([MAKE]) is None
        assert await session.inline([solution], [MAKE]) == [None]
        assert await session.export([solution], [MAKE], build.events.append) is None
        await session.leaving(build.events.append)(None, None, None)

    build([], work)
    assert build.is_done
    assert build.place.written == []


def test_an_image_carries_its_cache_where_that_is_wanted(build: Build) -> None:
    async def work(session: CacheSession, solution: Solution) -> None:
        (text,) = await session.inline([solution], [MAKE])
        assert text is not None
        assert text({DELTA: DIFF_ID}) != ""
        assert text({}) == ""

    build([cache_to("inline", {})], work)


@pytest.mark.parametrize("error", [None, UserError("a later step failed")])
def test_a_build_that_comes_to_no_end_keeps_its_work(
    build: Build, error: BaseException | None
) -> None:
    keys: list[Digest | None] = []

    async def work(session: CacheSession, solution: Solution) -> None:
        keys.append(solution.key(MAKE))
        await session.leaving(build.events.append)(None, error, None)

    build([MAX], work)
    assert build.keys == keys
    assert build.is_done


def test_only_every_steps_cache_is_carried_while_a_build_goes_on(build: Build) -> None:
    async def work(session: CacheSession, solution: Solution) -> None:
        assert session.follow([MAKE]) is None
        await session.leaving(build.events.append)(None, UserError("x"), None)

    build([cache_to("local", {"dest": "/c"})], work)
    assert build.place.written == []


def test_the_cache_of_a_result_alone_is_written_at_its_end(build: Build) -> None:
    async def work(session: CacheSession, solution: Solution) -> None:
        made = await session.export([solution], [MAKE], build.events.append)
        assert made is not None
        assert made == build.place.name
        await session.leaving(build.events.append)(None, None, None)

    build([cache_to("local", {"dest": "/c"})], work)
    assert len(build.keys) == 1


def test_what_was_exported_is_not_written_again_at_the_end(build: Build) -> None:
    async def work(session: CacheSession, solution: Solution) -> None:
        made = await session.export([solution], [MAKE], build.events.append)
        assert made is not None
        assert made == build.place.name
        written = len(build.place.written)
        await session.leaving(build.events.append)(None, UserError("an output failed"), None)
        assert len(build.place.written) == written

    build([MAX], work)
    assert len(build.keys) == 1
    assert build.is_done


def test_a_place_that_cannot_be_written_is_said_before_anything_runs(build: Build) -> None:
    build.place.faults["check"] = EnvironmentFault("it is read-only")

    async def work(session: CacheSession, solution: Solution) -> None:
        raise AssertionError("nothing was to run")

    with pytest.raises(EnvironmentFault, match="^it is read-only$"):
        build([MAX], work)
    assert not build.is_done
