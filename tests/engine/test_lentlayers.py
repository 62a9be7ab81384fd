"""Deltas of other stores: a layer is made where the delta is, when somebody asks for it [CCH-12]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from pybuild.builds.sources import BuildSources
from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.engine.engine import Engine
from pybuild.engine.progress import InternalStep
from pybuild.engine.settings import Settings
from pybuild.engine.solve import solve
from pybuild.executor.fetch import LayerGone
from pybuild.executor.runner import BuildRunner
from pybuild.exporter.layermaker import LayerMaker, made_at
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.events import Emit, Event
from pybuild.model.layerfacts import LENT_PREFIX, LayerFacts
from pybuild.model.ops import FileOp, Mkfile, ScratchSource, Vertex
from pybuild.model.snapshot import Record, Result, Snapshot
from tests.executor.sandbox_helpers import skip_unless_possible
from tests.solver.builders import run, scratch
from tests.solver.fakes import FakeRunner

T = TypeVar("T")
MAKE = run("make", scratch())


class Neighbour:
    """The peers of an engine: one other engine, until it is gone."""

    def __init__(self, engine: Engine, own: Engine) -> None:
        self.engine = engine
        self.own = own
        self.made: list[str] = []
        self.is_gone = False

    def have(self, delta: str) -> bool:
        return not self.is_gone

    async def make(
        self, delta: str, compression: str, level: int | None
    ) -> tuple[Digest, Descriptor]:
        if self.is_gone:
            raise LayerGone(delta, "the neighbour has gone")
        self.made.append(f"{compression}-{level}")
        return await LayerMaker(self.engine, compression, level).make(delta)

    async def bring(self, delta: str, layer: Descriptor, step: InternalStep) -> None:
        if self.is_gone:
            raise LayerGone(delta, "the neighbour has gone")
        self.own.store.blobs.put(self.engine.store.blobs.read(layer.digest))


class Two:
    """Two engines; a delta that the first made, which the second has a record of."""

    def __init__(self, theirs: Engine, ours: Engine, delta: str) -> None:
        self.theirs, self.ours, self.delta = theirs, ours, delta
        self.neighbour = Neighbour(theirs, ours)
        ours.images.peers = self.neighbour
        facts = LayerFacts(layout=LENT_PREFIX + "them", cache="worker them", created=7.0)
        keep_layer(ours.store.records, delta, facts)


def with_two(tmp_path: Path, work: Callable[[Two], Awaitable[T]]) -> T:
    async def main() -> T:
        async with AsyncExitStack() as stack:
            engines = [
                await stack.enter_async_context(Engine(Settings(root=str(tmp_path / name))))
                for name in ("theirs", "ours")
            ]
            theirs, ours = engines
            sources = BuildSources(theirs, secrets={}, allow=frozenset())
            stack.push_async_callback(sources.close)
            runner = await stack.enter_async_context(sources.runner({}))
            op = FileOp(actions=(Mkfile(path="/a", data=b"hello\n", mtime=5),))
            vertex = Vertex(op, (Vertex(ScratchSource()),))
            result = await runner.run(vertex, [Snapshot()], lambda event: None)
            assert isinstance(result, Snapshot)
            [delta] = result.deltas
            return await work(Two(theirs, ours, delta))

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def possible() -> None:
    skip_unless_possible()


@pytest.mark.sandbox
@pytest.mark.slow
def test_it_is_unpacked_from_a_layer_that_is_made_when_first_wanted(tmp_path: Path) -> None:
    async def work(two: Two) -> None:
        assert two.neighbour.made == []
        for _ in range(2):
            [path] = await two.ours.layers().ensure([two.delta], lambda event: None)
            assert Path(path, "a").read_bytes() == b"hello\n"
        assert two.neighbour.made == ["zstd-1"]
        facts = layer_facts(two.ours.store.records, two.delta)
        assert facts is not None
        assert facts.is_lent
        assert facts.descriptor is not None

    with_two(tmp_path, work)


@pytest.mark.sandbox
@pytest.mark.slow
def test_its_layer_in_an_image_is_the_one_that_its_maker_would_write(tmp_path: Path) -> None:
    async def work(two: Two) -> None:
        await two.ours.layers().ensure([two.delta], lambda event: None)  # by zstd
        made = await LayerMaker(two.ours, "gzip", None).make(two.delta)
        assert made == await LayerMaker(two.theirs, "gzip", None).make(two.delta)
        assert two.ours.store.blobs.holds(made[1])
        assert made_at(two.ours.store, two.delta) == 7.0
        # It is known from now on, whoever goes away.
        two.neighbour.is_gone = True
        assert await LayerMaker(two.ours, "gzip", None).make(two.delta) == made

    with_two(tmp_path, work)


@pytest.mark.sandbox
@pytest.mark.slow
def test_what_was_unpacked_needs_its_maker_no_more(tmp_path: Path) -> None:
    async def work(two: Two) -> None:
        await two.ours.layers().ensure([two.delta], lambda event: None)
        two.neighbour.is_gone = True
        made = await LayerMaker(two.ours, "gzip", None).make(two.delta)
        assert made == await LayerMaker(two.theirs, "gzip", None).make(two.delta)

    with_two(tmp_path, work)


@pytest.mark.sandbox
@pytest.mark.slow
def test_who_has_gone_with_it_leaves_a_layer_that_is_gone(tmp_path: Path) -> None:
    async def work(two: Two) -> None:
        two.neighbour.is_gone = True
        with pytest.raises(LayerGone):
            await two.ours.layers().ensure([two.delta], lambda event: None)
        with pytest.raises(LayerGone):
            await LayerMaker(two.ours, "gzip", None).make(two.delta)
        two.ours.images.peers = None
        with pytest.raises(LayerGone, match="none is connected"):
            await two.ours.layers().ensure([two.delta], lambda event: None)

    with_two(tmp_path, work)


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_record_may_name_it(tmp_path: Path) -> None:
    async def work(two: Two) -> None:
        key = Digest.of(b"key")
        two.ours.results.save(Record(key=key, snapshot=Snapshot((two.delta,)), name="x"))
        loaded = two.ours.results.load(key)
        assert loaded is not None
        assert loaded.snapshot.deltas == (two.delta,)
        two.ours.results.forget(two.delta, everywhere=False)
        assert two.ours.results.load(key) is None

    with_two(tmp_path, work)


class Maker(FakeRunner):
    """Makes the delta of the other store, then one of its own."""

    def __init__(self, *results: Snapshot) -> None:
        super().__init__()
        self.results = list(results)

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        return Snapshot() if isinstance(vertex.op, ScratchSource) else self.results.pop(0)


@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_target_that_nobody_has_any_more_is_made_again(tmp_path: Path, is_gone: bool) -> None:
    async def work(two: Two) -> None:
        [own] = Snapshot(("sha256-" + "1" * 64,)).deltas
        keep_layer(two.ours.store.records, own, LayerFacts())
        maker = Maker(Snapshot((two.delta,)), Snapshot((own,)))
        two.neighbour.is_gone = is_gone
        events: list[Event] = []
        solution = await solve(two.ours, [MAKE], maker, events.append, whole=True)
        assert solution.of(MAKE).result == Snapshot((own if is_gone else two.delta,))

    with_two(tmp_path, work)


def test_an_engine_says_who_runs_its_builds(tmp_path: Path) -> None:
    class Other(BuildRunner):
        pass

    async def main() -> None:
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            engine.runners = Other
            guest = engine.for_client(engine.credentials())
            sources = BuildSources(guest, secrets={}, allow=frozenset())
            async with sources.runner({}) as runner:
                assert isinstance(runner, Other)
            await sources.close()
            await guest.close()

    asyncio.run(main())
