"""A context that its address says: which kind it is, and what is none."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pybuild.builds.fetchedcontexts import FetchedContext, Fetching
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.attrs import Attrs
from pybuild.daemon.frontend.definition import below, load_context
from pybuild.daemon.session.upload import HOST
from pybuild.model.errors import UserError
from pybuild.model.ops import FileOp, HttpSource, ScratchSource, Vertex

FETCHED = FetchedContext(Vertex(ScratchSource()), cast(Any, None))


class Fetches:
    """Keeps what is to be fetched, as `Fetching` does it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    async def git(self, url: str, build_args: dict[str, str]) -> FetchedContext:
        self.asked.append(("git", (url, build_args)))
        return FETCHED

    async def http(self, url: str) -> FetchedContext:
        self.asked.append(("http", url))
        return FETCHED

    async def check(self, op: HttpSource) -> None:
        self.asked.append(("check", op.url))

    async def file(self, vertex: Vertex) -> FetchedContext:
        self.asked.append(("file", vertex.op))
        return FETCHED


class Uploads:
    """A scope, as far as its uploads go."""

    async def adopt_upload(self, id: str, filename: str) -> HttpSource:
        return HttpSource(url=f"adopted:{id}", filename=filename)


def load(url: str, **attrs: Any) -> list[tuple[str, object]]:
    fetches = Fetches()
    scope, fetching = cast(Scope, Uploads()), cast(Fetching, fetches)
    asyncio.run(load_context(scope, Attrs(context=url, **attrs), fetching))
    return fetches.asked


def test_an_address_says_what_is_fetched() -> None:
    assert load("https://x.example/a.tar") == [("http", "https://x.example/a.tar")]
    url = "https://x.example/a.git#v1"
    assert load(url, build_args={"A": "1"}) == [("git", (url, {"A": "1"}))]


def test_an_upload_of_the_client_is_judged_and_then_adopted() -> None:
    (check, url), (file, op) = load(f"http://{HOST}/abc")
    assert (check, url, file) == ("check", f"http://{HOST}/abc", "file")
    assert isinstance(op, HttpSource)
    assert op.url == "adopted:abc"


def test_what_is_no_address_is_named() -> None:
    with pytest.raises(UserError, match=r"invalid context ftp://x\.example/a"):
        load("ftp://x.example/a")


def test_a_directory_below_is_a_context_of_its_own() -> None:
    context = Vertex(ScratchSource())
    made = below(context, "a/../b/")
    assert isinstance(made.op, FileOp)
    assert [(copy.source, copy.dest) for copy in made.op.actions] == [("/b", "/")]  # type: ignore[union-attr]
    assert made.inputs[1] is context
