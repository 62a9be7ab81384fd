"""Workplaces of clients' builds: engines, each on a store.

The server's own user builds in the server's store, as its command line does. Every other client
has a store of its own below it, ``owners/<id>``, in which nothing of anybody else is: no name, no
image, no result, no layer, no cache mount. Its bytes are fetched with its own credentials, or not
at all. What is shared beyond that is the operator's to say, client by client (`Share`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from hashlib import sha256

from pybuild.daemon.session.filesync import LocalSync
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings, Share
from pybuild.model.dataclass import dataclass
from pybuild.net.grpc.peer import user

_STORES = "owners"
_SHARED = "shared"
MOST_IDLE = 8


def folder_of(owner: str) -> str:
    """Return a name for folders of *owner*, whatever characters its own has."""
    return sha256(owner.encode()).hexdigest()[:32]


def place_of(owner: str) -> str:
    """Return the name of an owner's folders; empty for the server's own user."""
    return "" if owner == user(os.geteuid()) else folder_of(owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """An engine with a store, for builds of one owner.

    Attributes:
        sync: keeps the directories that clients send.
        place: the folder of its store among those of clients; empty for others.
        names: the folder of the owner's names of images, below the store; empty: the store's own.
        passes: it goes, with all that is in it, when its one build ends.
        guest: the owner's mark on what no key tells, in a store that others use as well; empty
            in a store of its own.
        is_servers: its owner is the server's own user, who may use what credentials the server
            finds around itself.
    """

    engine: Engine
    sync: LocalSync
    place: str = ""
    names: str = ""
    guest: str = ""
    passes: bool = False
    is_servers: bool = False


class _Opened:
    """A store that is open for *users* at this moment."""

    def __init__(self, task: asyncio.Task[Workplace], stack: AsyncExitStack) -> None:
        self.task = task
        self.stack = stack
        self.users = 0

    @property
    def has_failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    async def close(self) -> None:
        await asyncio.gather(self.task, return_exceptions=True)
        await self.stack.aclose()


class Workplaces:
    """The workplaces of one server, each opened when somebody builds there.

    Of those that nobody uses, the `MOST_IDLE` that were used last stay open: each has processes,
    threads and files.

    Args:
        engine: the server's own.
        share: by owner; *default* for those who are not in it.
    """

    def __init__(self, engine: Engine, default: Share, share: Mapping[str, Share]) -> None:
        self._engine = engine
        self._default = default
        self._share = share
        self._stack = AsyncExitStack()
        sync = self._sync(engine, self._stack)
        self._own = Workplace(engine=engine, sync=sync, is_servers=True)
        self._opened: dict[str, _Opened] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncGenerator[Workplace]:
        """Give the workplace for the builds of *owner*.

        Raises:
            EnvironmentFault: its store cannot be opened.
        """
        place = place_of(owner)
        if not place:
            yield self._own
        elif self._shares(owner) is not Share.ALL:
            async with self._at(place, owner) as own:
                yield own
        else:
            async with self._at(_SHARED, "clients that share with each other") as shared:
                yield replace(shared, names=os.path.join("names", place), guest=place)

    @asynccontextmanager
    async def lent(self, owner: str, *, imports: bool = False) -> AsyncGenerator[Workplace]:
        """Give a workplace for one build of *owner*.

        Args:
            imports: it imports caches, whose claims nobody else shall have to believe.

        Raises:
            EnvironmentFault: its store cannot be opened.
        """
        place = place_of(owner)
        if not place or self._shares(owner) is not Share.NONE:
            alone = bool(place) and imports
            async with self._at(place, owner) if alone else self.of(owner) as workplace:
                yield workplace
            return
        root = self._engine.store.scratch("owner")
        try:
            async with AsyncExitStack() as stack:
                yield replace(await self._open(root, owner, stack), passes=True)
        finally:
            await asyncio.to_thread(self._engine.store.discard, root)

    @contextmanager
    def kept(self, workplace: Workplace) -> Generator[None]:
        """Keep the store of *workplace* open, which somebody has at this moment."""
        opened = self._opened.get(workplace.place)
        if opened is None:  # the server's own, or one that passes
            yield
            return
        opened.users += 1
        try:
            yield
        finally:
            self._let_go(workplace.place, opened)

    async def close(self) -> None:
        """Close every store but the server's own; builds have ended before."""
        await asyncio.gather(*(opened.close() for opened in self._opened.values()))
        await asyncio.gather(*self._closing)
        await self._stack.aclose()

    def _shares(self, owner: str) -> Share:
        return self._share.get(owner, self._default)

    @asynccontextmanager
    async def _at(self, place: str, owner: str) -> AsyncGenerator[Workplace]:
        opened = self._opened.get(place)
        if opened is not None and opened.has_failed and not opened.users:
            self._close(place)
            opened = None
        if opened is None:
            root, stack = os.path.join(self._engine.store.root, _STORES, place), AsyncExitStack()
            opening = self._open(root, owner, stack, place)
            opened = self._opened[place] = _Opened(asyncio.create_task(opening), stack)
        opened.users += 1
        try:
            yield await asyncio.shield(opened.task)
        finally:
            self._let_go(place, opened)

    def _let_go(self, place: str, opened: _Opened) -> None:
        opened.users -= 1
        if opened.users:
            return
        self._opened[place] = self._opened.pop(place)  # the one used last comes last
        idle = [name for name, one in self._opened.items() if not one.users]
        for name in idle[: max(0, len(idle) - MOST_IDLE)]:
            self._close(name)

    def _close(self, place: str) -> None:
        task = asyncio.create_task(self._opened.pop(place).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _open(
        self, root: str, owner: str, stack: AsyncExitStack, place: str = ""
    ) -> Workplace:
        await asyncio.to_thread(os.makedirs, os.path.dirname(root), mode=0o700, exist_ok=True)
        settings: Settings = replace(self._engine.settings, root=root)
        engine = await stack.enter_async_context(Engine(settings, self._engine.clock))
        with suppress(OSError):  # for people who look at the disk
            await asyncio.to_thread(_label, root, owner)
        return Workplace(engine=engine, sync=self._sync(engine, stack), place=place)

    def _sync(self, engine: Engine, stack: AsyncExitStack) -> LocalSync:
        sync = LocalSync(engine.store, keep_unnamed=True)
        stack.push_async_callback(asyncio.to_thread, sync.close)
        return sync


def _label(root: str, owner: str) -> None:
    path = os.path.join(root, "owner")
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"owner": owner}, file)
