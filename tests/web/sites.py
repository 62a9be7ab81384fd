"""A page that is served for a test, builds in its store, and a client that sends what it is told, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pybuild.cache.content.buildhistory import Builds
from pybuild.cache.store import Store
from pybuild.explain.report import to_json
from pybuild.model.events import Event
from pybuild.web.serving import serving_page
from tests.clocks import FakeClock
from tests.history.pastbuilds import AT, REPORT, events

ANSWER_S = 60.0


@dataclass(frozen=True)
class PageAnswer:
    """An answer, read to the end; names of its head's fields are in lower case."""

    status: int
    head: Mapping[str, str]
    body: str


@dataclass
class PageSite:
    """The page of a store.

    Attributes:
        links: those that were announced, the one that opens next last.
        cookie: of the session, once there is one.
    """

    store: Store
    port: int = 0
    links: list[str] = field(default_factory=list[str])
    cookie: str = ""

    @property
    def name(self) -> str:
        """The server's own name, as browsers send it."""
        return urlsplit(self.links[-1]).netloc

    async def send(self, data: bytes) -> PageAnswer:
        """Send bytes on a connection of their own, and read what comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(ANSWER_S):
                return read_answer(await reader.read())
        finally:
            writer.close()

    async def ask(
        self, target: str, method: str = "GET", *, host: str | None = None, **fields: str
    ) -> PageAnswer:
        """Ask with the session's cookie and further fields, in whose names ``_`` is ``-``; an empty one is left out."""
        head = {"Host": host or self.name, "Cookie": self.cookie, "Connection": "close"}
        head |= {name.replace("_", "-"): value for name, value in fields.items()}
        lines = [f"{name}: {value}" for name, value in head.items() if value]
        text = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""])
        return await self.send(text.encode("utf-8", "surrogateescape"))

    async def enter(self) -> PageAnswer:
        """Open a session with the link, and keep its cookie."""
        answer = await self.ask(urlsplit(self.links[-1]).path)
        self.cookie = answer.head["set-cookie"].partition(";")[0]
        return answer


def read_answer(data: bytes) -> PageAnswer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return PageAnswer(int(first.split()[1]), fields, body.decode())


@asynccontextmanager
async def page_site(folder: Path, *, enters: bool = True) -> AsyncGenerator[PageSite]:
    """Serve the page of an empty store in *folder*, as one who has come in unless not *enters*."""
    with Store.open(str(folder / "store"), FakeClock(AT + 100.0)) as store:
        site = PageSite(store)
        async with serving_page(store, 0, site.links.append) as port:
            site.port = port
            if enters:
                await site.enter()
            yield site


def on_site(
    folder: Path, work: Callable[[PageSite], Coroutine[Any, Any, None]], *, enters: bool = True
) -> None:
    """Have *work* done at a site of its own."""

    async def run() -> None:
        async with page_site(folder, enters=enters) as site:
            await work(site)

    asyncio.run(run())


def keep_build(
    store: Store,
    said: Iterable[Event] | None = None,
    *,
    status: str = "completed",
    at: float = AT,
    **facts: Any,
) -> str:
    """Keep a build in a store as a build keeps itself; return its id."""
    record = Builds(store).begin(at, {"name": "app", "context": "/src", **facts}, ())
    for event in events() if said is None else said:
        record.emit(event)
    record.report = to_json(replace(REPORT, id=record.id))
    record.end(status)
    return record.id


class PageStage:
    """A site that several tests send requests to, each with a session of its own."""

    def __init__(self, runner: asyncio.Runner, site: PageSite) -> None:
        self._runner = runner
        self._site = site

    def play(self, work: Callable[[PageSite], Coroutine[Any, Any, None]]) -> None:
        """Have *work* done as one who has just come in."""

        async def run() -> None:
            await self._site.enter()
            await work(self._site)

        self._runner.run(run())


@contextmanager
def page_stage(folder: Path) -> Generator[PageStage]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def begin() -> PageSite:
            return await stack.enter_async_context(page_site(folder, enters=False))

        try:
            yield PageStage(runner, runner.run(begin()))
        finally:
            runner.run(stack.aclose())
