"""Contexts that are fetched: which Dockerfile is read in them, and what is judged before."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest

from pybuild.builds.contextfiles import MAX_DOCKERFILE_BYTES
from pybuild.builds.fetchedcontexts import FetchedContext, Fetching
from pybuild.builds.verdicts import decided_of, in_place
from pybuild.frontend.giturl import CONTEXT_FILE
from pybuild.model.errors import UserError
from pybuild.model.events import Emit, Event
from pybuild.model.ops import FileOp, HttpSource, ScratchSource, Vertex
from pybuild.model.policy import Policies, PolicySource, Undecided
from pybuild.model.snapshot import Snapshot

T = TypeVar("T")
_CONTEXT = FetchedContext(Vertex(ScratchSource()), Snapshot())


class _Trees:
    """Trees that have the given files, whichever they are."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self.made: list[Vertex] = []

    async def tree(self, vertex: Vertex, emit: Emit) -> Snapshot:
        self.made.append(vertex)
        return Snapshot()

    async def read(self, tree: Snapshot, path: str, limit: int) -> bytes | None:
        data = self._files.get(path)
        return None if data is None else data[:limit]


class _Judge:
    """Lets a source pass when it was asked for a verdict on it."""

    def __init__(self) -> None:
        self.decisions: list[str] = []

    def judge(self, source: PolicySource) -> PolicySource:
        if source.identifier not in self.decisions:
            raise Undecided(source)
        return source

    async def decide(self, source: PolicySource) -> None:
        self.decisions.append(source.identifier)

    async def decided(self, work: Callable[[], T]) -> T:
        return await decided_of(partial(in_place, work), self.decide)


def _unseen(event: Event) -> None:
    pass


def _fetching(files: dict[str, bytes]) -> Fetching:
    return Fetching(_Trees(files), _unseen, None)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("Dockerfile"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("there", "filename", "name"),
    [
        ("Dockerfile", "Dockerfile", "Dockerfile"),
        ("dockerfile", "Dockerfile", "dockerfile"),
        ("sub/dockerfile", "./sub/Dockerfile", "sub/dockerfile"),
        ("other", "other", "other"),
    ],
)
def test_a_dockerfile_of_a_fetched_context(there: str, filename: str, name: str) -> None:
    fetching = _fetching({there: b"FROM scratch\n"})
    dockerfile = asyncio.run(fetching.dockerfile(_CONTEXT, filename))
    assert dockerfile == (b"FROM scratch\n", name)


def test_a_dockerfile_that_a_fetched_context_has_not_is_named() -> None:
    with pytest.raises(UserError, match="failed to read dockerfile: open other: no such file") as e:
        asyncio.run(_fetching({}).dockerfile(_CONTEXT, "other"))
    assert e.value.hints == ("name another file of the context with -f",)


def test_a_dockerfile_of_a_fetched_context_is_not_cut_short() -> None:
    fetching = _fetching({"Dockerfile": b"#" * (MAX_DOCKERFILE_BYTES + 1)})
    with pytest.raises(UserError, match="Dockerfile: larger than 64 MiB"):
        asyncio.run(fetching.dockerfile(_CONTEXT, "Dockerfile"))


def test_a_file_that_is_an_archive_is_the_context_and_any_other_its_dockerfile() -> None:
    context = asyncio.run(_fetching({CONTEXT_FILE: _tar()}).http("https://example.com/x"))
    assert isinstance(context.vertex.op, FileOp)
    assert context.dockerfile == ""
    context = asyncio.run(_fetching({CONTEXT_FILE: b"FROM x\n"}).http("https://example.com/x"))
    assert isinstance(context.vertex.op, HttpSource)
    assert context.dockerfile == CONTEXT_FILE


def test_verdicts_on_a_context_are_obtained_before_it_is_fetched() -> None:
    judge, trees = _Judge(), _Trees({})
    fetching = Fetching(trees, _unseen, Policies(judge=judge), judge.decided)
    asyncio.run(fetching.http("https://example.com/x"))
    assert judge.decisions == ["https://example.com/x"]
    assert len(trees.made) == 1
