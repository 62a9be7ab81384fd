"""A cached layer that is gone is made again, and nobody hears of a failure that was none [CCH-12]."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.cache.records.layers import keep_layer
from pybuild.engine.engine import Engine
from pybuild.engine.progress import InternalStep
from pybuild.engine.settings import Settings
from pybuild.engine.solve import solve, unwrap_group
from pybuild.executor.fetch import LayerGone
from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError, unwrap
from pybuild.model.events import BuildWarning, Emit, Event, VertexFailed
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.snapshot import Result, Snapshot
from tests.solver.builders import run, scratch
from tests.solver.fakes import FakeRunner

DATA = gzip.compress(b"\0" * 1024, mtime=0)
DIFF_ID = Digest.of(b"\0" * 1024)
LAYER = Descriptor(OCI_LAYER_GZIP, Digest.of(DATA), len(DATA))
DELTA = "sha256-" + DIFF_ID.hex
FACTS = LayerFacts(diff_id=DIFF_ID, descriptor=LAYER, layout="memory", cache="cache:1")
MAKE = run("make", scratch())


class Runner(FakeRunner):
    """Fails with *errors*, one after the other, and then makes a layer that can be pulled."""

    def __init__(self, *errors: Exception, deltas: tuple[str, ...] = (DELTA,)) -> None:
        super().__init__()
        self.errors = list(errors)
        self.deltas = deltas

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        if isinstance(vertex.op, ScratchSource):
            return Snapshot()
        self.ran.append(vertex.meta.name)
        if self.errors:
            raise self.errors.pop(0)
        return Snapshot(self.deltas)


class Solving:
    """One solve of `MAKE` in an engine of its own; its events, and whether the layer was fetched."""

    def __init__(
        self, path: Path, runner: Runner, *, whole: bool = False, facts: LayerFacts = FACTS
    ) -> None:
        self.path, self.runner, self.whole, self.facts = path, runner, whole, facts
        self.events: list[Event] = []
        self.is_fetched = False

    def __call__(self) -> tuple[str, ...]:
        return asyncio.run(self._solve())

    async def _solve(self) -> tuple[str, ...]:
        async with Engine(Settings(root=str(self.path / "store"))) as engine:
            keep_layer(engine.store.records, DELTA, self.facts)

            async def lend(blob: Descriptor, step: InternalStep) -> None:
                engine.store.blobs.put(DATA)

            engine.images.lenders["memory"] = lend
            solution = await solve(
                engine, [MAKE], self.runner, self.events.append, whole=self.whole
            )
            self.is_fetched = engine.store.blobs.has(LAYER.digest)
            result = solution.of(MAKE).result
            assert isinstance(result, Snapshot)
            return result.deltas

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, BuildWarning)]

    @property
    def failures(self) -> list[str]:
        return [event.error for event in self.events if isinstance(event, VertexFailed)]


def gone(delta: str = "sha256-" + "0" * 64) -> LayerGone:
    return LayerGone(delta, "it is gone")


def test_what_is_gone_is_made_again(tmp_path: Path) -> None:
    solving = Solving(tmp_path, Runner(gone(), gone()))
    assert solving() == (DELTA,)
    assert solving.runner.ran == ["make"] * 3
    assert solving.warnings == ["a cached layer is gone, its step runs: it is gone"] * 2
    assert solving.failures == []


def test_a_mere_link_is_no_news(tmp_path: Path) -> None:
    solving = Solving(tmp_path, Runner(gone("gone-" + "0" * 64)))
    assert solving() == (DELTA,)
    assert (solving.warnings, solving.failures) == ([], [])


def test_other_failures_are_shown_and_final(tmp_path: Path) -> None:
    solving = Solving(tmp_path, Runner(UserError("it is wrong")))
    with pytest.raises((UserError, ExceptionGroup)) as caught:
        solving()
    assert str(unwrap(caught.value)) == "it is wrong"
    assert (solving.runner.ran, solving.failures) == (["make"], ["it is wrong"])


def test_it_is_not_tried_for_ever(tmp_path: Path) -> None:
    solving = Solving(tmp_path, Runner(*[gone()] * 40))
    with pytest.raises((LayerGone, ExceptionGroup)):
        solving()
    assert (len(solving.runner.ran), len(solving.warnings)) == (32, 31)
    assert solving.failures == ["it is gone"]


def test_a_result_that_is_a_link_is_made_again(tmp_path: Path) -> None:
    solving = Solving(tmp_path, Runner(deltas=("gone-" + "0" * 64,)))
    with pytest.raises(LayerGone, match="^the cache has no layers of gone-0"):
        solving()


@pytest.mark.parametrize("whole", [False, True])
def test_layers_of_caches_are_fetched_where_the_whole_result_is_wanted(
    tmp_path: Path, whole: bool
) -> None:
    solving = Solving(tmp_path, Runner(), whole=whole)
    assert solving() == (DELTA,)
    assert solving.is_fetched is whole


def test_layers_of_images_are_left_where_they_are(tmp_path: Path) -> None:
    solving = Solving(tmp_path, Runner(), whole=True, facts=replace(FACTS, cache=""))
    assert solving() == (DELTA,)
    assert not solving.is_fetched


def test_of_several_failures_the_first_counts() -> None:
    first, second = UserError("first"), UserError("second")
    inner = ExceptionGroup("inner", [first, second])
    assert unwrap_group(ExceptionGroup("outer", [inner, second])) is first
    assert unwrap_group(second) is second
