"""Verdicts, lookups and the times of sources, obtained while a definition is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from pybuild.builds.epoch import Epochs
from pybuild.builds.lookups import Lookups, note_files, note_image, note_vertices, noting
from pybuild.builds.prepare import sources_shown
from pybuild.builds.verdicts import decided_of, in_place, nobody_decides
from pybuild.executor.sources.remote import RemoteSources
from pybuild.frontend.lowering.interface import ImageRequest, LowerOptions
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, UserError
from pybuild.model.events import Event, VertexAdded
from pybuild.model.ops import GitSource, HttpSource, ScratchSource, Vertex
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.policy import PolicySource, Undecided
from pybuild.model.reference import Reference

T = TypeVar("T")


def test_work_begins_again_with_each_verdict_that_it_lacks() -> None:
    known: list[str] = []
    begun: list[int] = []

    async def work() -> str:
        begun.append(len(known))
        for name in ("one", "two"):
            if name not in known:
                raise Undecided(PolicySource(name))
        return "done"

    async def decide(source: PolicySource) -> None:
        known.append(source.identifier)

    assert asyncio.run(decided_of(work, decide)) == "done"
    assert (begun, known) == ([0, 1, 2], ["one", "two"])


def test_rules_know_every_verdict_so_that_nobody_is_asked() -> None:
    async def work() -> None:
        raise Undecided(PolicySource("docker-image://x"))

    with pytest.raises(InternalError, match="^nobody decides about docker-image://x$"):
        asyncio.run(decided_of(work, nobody_decides))
    assert asyncio.run(in_place(lambda: 3)) == 3


def _note(name: str) -> None:
    request = ImageRequest(Reference.parse(name), LINUX_AMD64)
    note_image(request, Digest.of(name.encode()))
    note_vertices([Vertex(ScratchSource())])
    note_files("context", [name])


def test_lookups_are_noted_where_they_happen_and_nowhere_else() -> None:
    outer, inner = Lookups(), Lookups()
    _note("before")
    with noting(outer):
        _note("a")
        with noting(inner):
            _note("b")
        with noting(None):
            _note("hidden")
        _note("c")
    _note("after")
    for lookups, names in ((outer, ["a", "c"]), (inner, ["b"])):
        assert [request.reference.familiar for request, _ in lookups.images] == [
            f"{name}:latest" for name in names
        ]
        assert len(lookups.vertices) == len(names)
        assert lookups.files == {"context": tuple(names)}


def test_lookups_end_also_where_they_fail() -> None:
    lookups = Lookups()
    with pytest.raises(KeyError), noting(lookups):
        raise KeyError
    _note("after")
    assert lookups == Lookups()


def test_tasks_note_where_they_were_started() -> None:
    async def answer(name: str, lookups: Lookups) -> None:
        with noting(lookups):
            await asyncio.sleep(0)
            _note(name)
            await asyncio.gather(asyncio.to_thread(_note, name + "-thread"))

    async def both() -> list[Lookups]:
        several = [Lookups(), Lookups()]
        await asyncio.gather(*(answer(f"n{i}", one) for i, one in enumerate(several)))
        return several

    first, second = asyncio.run(both())
    assert first.files == {"context": ("n0", "n0-thread")}
    assert second.files == {"context": ("n1", "n1-thread")}


class _Times(RemoteSources):
    """Sources that were changed at a time."""

    def __init__(self, time: int | None) -> None:
        self.time = time
        self.lookups: list[GitSource | HttpSource] = []

    async def changed(self, op: GitSource | HttpSource) -> int | None:
        self.lookups.append(op)
        return self.time


class _Clock:
    def now(self) -> float:
        return 0.0


class _Site:
    def __init__(self, time: int | None = 7) -> None:
        self.times = _Times(time)
        self.events: list[Event] = []
        self.threaded = 0
        self.epochs = Epochs(self.times, self.events.append, _Clock(), self.in_thread)

    async def in_thread(self, work: Callable[[], T], /) -> T:
        self.threaded += 1
        return work()

    def settle(self, word: str, **epochs: int | None) -> LowerOptions:
        options = LowerOptions(
            target_platform=LINUX_AMD64,
            build_platform=LINUX_AMD64,
            build_args={"SOURCE_DATE_EPOCH": word},
            context=Vertex(HttpSource(url="https://h.example/x")),
            epochs=epochs,
        )
        return asyncio.run(
            self.epochs.settle(parse_dockerfile(b"FROM scratch\n", "Dockerfile"), options)
        )


@pytest.mark.parametrize("time", [7, 0, None])
def test_the_time_of_a_source_is_looked_up_once(time: int | None) -> None:
    site = _Site(time)
    for _ in range(2):
        assert site.settle("context", before=1).epochs == {"before": 1, "context": time}
    assert site.times.lookups == [HttpSource(url="https://h.example/x")]
    assert [source.word for source in site.epochs.sources] == ["context"]
    added = [event.name for event in site.events if isinstance(event, VertexAdded)]
    assert added == ["[internal] resolve main build context metadata"]
    assert site.threaded == 2


def test_a_number_is_no_source() -> None:
    site = _Site()
    assert site.settle("1700000000").epochs == {}
    assert (site.times.lookups, site.epochs.sources, site.events) == ([], (), [])


def test_errors_that_pass_get_the_text_that_they_are_about() -> None:
    cause = UserError("wrong", hints=["do it right"])
    for raised in (cause, ExceptionGroup("several", [cause])):
        with pytest.raises(UserError) as caught, sources_shown("Dockerfile", ["FROM x"]):
            raise raised
        assert caught.value.sources == {"Dockerfile": ["FROM x"]}
        assert (caught.value.message, caught.value.hints) == ("wrong", ("do it right",))
    bug = KeyError("bug")
    with pytest.raises(KeyError) as other, sources_shown("Dockerfile", []):
        raise bug
    assert other.value is bug
    with sources_shown("Dockerfile", []):
        pass
