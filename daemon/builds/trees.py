"""The client's directories during one build: fetched by its session when first wanted [5.1]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.builds.lookups import note_files
from pybuild.daemon.session.filesync import LocalRequest, LocalSync, Received
from pybuild.daemon.session.sessions import Session
from pybuild.engine.progress import InternalStep
from pybuild.executor.files.jobs import read_file
from pybuild.executor.files.tree import Tree
from pybuild.executor.trees.contexttrees import TellProgress
from pybuild.executor.zygote.faults import Fault
from pybuild.model.errors import UserError
from pybuild.model.ops import LocalSource
from pybuild.model.snapshot import LocalTree

FindSession = Callable[[str], Awaitable[Session]]


class NoDirectory(UserError):
    """The client does not have the requested directory."""


class ClientTrees:
    """Directories of one client, each part of one fetched once (`executor.trees.contexttrees.LocalTrees`).

    A frontend says which paths will be read before it hands out what reads them.

    Args:
        find: returns another session of the same client by its id.
    """

    def __init__(self, session: Session | None, find: FindSession, sync: LocalSync) -> None:
        self._session = session
        self._find = find
        self._sync = sync
        self._stack = AsyncExitStack()
        self._names: dict[str, str] = {}
        self._session_ids: dict[str, str] = {}
        self._queries: dict[str, LocalQuery] = {}
        self._numbers: dict[str, dict[LocalQuery, int]] = {}
        self._parts: dict[str, tuple[str, ...]] = {}
        self.seen: dict[str, LocalTree] = {}
        """The directories that were fetched, by their local sources."""
        self._fetched: dict[tuple[str, LocalRequest], asyncio.Task[Received]] = {}

    def call(self, source: str, name: str) -> None:
        """Note the client's *name* of the directory of a local source."""
        self._names[source] = name

    def use_session(self, name: str, session: str) -> None:
        """Say that another session has the directory *name*."""
        self._session_ids[name] = session

    def will_use(self, paths: Mapping[str, tuple[str, ...]]) -> None:
        """Note the paths of local sources that count from now on; none means all of a directory."""
        self._parts |= paths

    def name_of(self, query: LocalQuery) -> str:
        """Return the name of the local source of a received definition, the same each time.

        No frontend calls a directory so: what it asks for is another matter.
        """
        numbers = self._numbers.setdefault(query.dir_name, {})
        name = f"{query.dir_name}#{numbers.setdefault(query, len(numbers) + 1)}"
        self._queries[name] = query
        return name

    def client_name(self, op: LocalSource) -> str:
        """Return the client's name of the directory of *op*."""
        query = self._queries.get(op.name)
        return query.dir_name if query else self._names.get(op.name, op.name)

    def queries(self, ops: Iterable[LocalSource]) -> dict[str, LocalQuery]:
        """Return the queries for the directories of *ops*, by their names."""
        queries: dict[str, LocalQuery] = {}
        for op in ops:
            name = self.client_name(op)
            plain = LocalQuery(
                dir_name=name,
                exclude=op.exclude,
                follow=self._parts.get(op.name, ()),
                shared_key=name,
            )
            query = self._queries.get(op.name, plain)
            session = query.session or self._session_id(query.dir_name)
            queries[op.name] = replace(query, session=session)
        return queries

    def _session_id(self, name: str) -> str:
        """Return the id of the session that has the directory *name*; empty if there is none."""
        own = self._session.id if self._session is not None else ""
        return self._session_ids.get(name, own)

    async def tree(self, op: LocalSource, tell: TellProgress) -> LocalTree:
        """Fetch the part of a directory that *op* needs.

        Raises:
            UserError: the client has no such directory, or fails.
        """
        query = self._queries.get(op.name)
        if query is not None:
            part = LocalRequest(
                name=query.dir_name,
                include=query.include,
                exclude=query.exclude,
                follow=query.follow,
                hint=query.shared_key,
                compare=query.compare,
                contents=query.metadata_except if query.metadata_only else None,
            )
            tree = _held(await self._fetch(part, tell, query.session), op)
            return self.seen.setdefault(op.name, tree)
        name = self._names.get(op.name, op.name)
        request = LocalRequest(
            name=name, exclude=op.exclude, follow=self._parts.get(op.name, ()), hint="tree"
        )
        return self.seen.setdefault(op.name, _held(await self._fetch(request, tell), op))

    async def files(
        self, name: str, paths: Sequence[str], limit: int, step: InternalStep
    ) -> dict[str, bytes]:
        """Return those of some files that are there.

        Raises:
            UserError: a file is larger than *limit*. NoDirectory: the client has none of that name.
        """

        def tell(id: str, current: int, total: int, done: bool) -> None:
            step.transfer(id, current, total, done)

        note_files(name, paths)
        request = LocalRequest(name=name, follow=tuple(paths), hint="files", keep=False)
        try:
            path = (await self._fetch(request, tell)).path
        except UserError as error:
            raise NoDirectory(error.message) from error
        return await asyncio.to_thread(read_all, path, paths, limit)

    async def _fetch(
        self, request: LocalRequest, tell: TellProgress, session: str = ""
    ) -> Received:
        """Fetch once from a session; unnamed, from the one that has the directory."""
        session_id = session or self._session_id(request.name)
        task = self._fetched.get((session_id, request))
        if task is None:
            task = asyncio.create_task(self._do_fetch(session_id, request, tell))
            self._fetched[session_id, request] = task
        return await asyncio.shield(task)

    async def _do_fetch(self, id: str, request: LocalRequest, tell: TellProgress) -> Received:
        session = self._session
        if session is None or id != session.id:
            session = await self._find(id) if id else None
        if session is None:
            raise UserError(f'no session has the directory "{request.name}"')
        shown = f"transferring {request.name}:"
        received = await self._stack.enter_async_context(
            self._sync.fetch(session, request, lambda now: tell(shown, now, 0, False))
        )
        tell(shown, received.moved, 0, True)
        return received

    async def close(self) -> None:
        """Give the directories back; idempotent."""
        tasks = list(self._fetched.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stack.aclose()


def _held(received: Received, op: LocalSource) -> LocalTree:
    return LocalTree(received.path, op.exclude, held=True, mountable=not received.foreign)


def read_all(root: str, paths: Sequence[str], limit: int) -> dict[str, bytes]:
    """Read files of a directory that a client sent: links lead nowhere outside it."""
    contents: dict[str, bytes] = {}
    with Tree.open(root) as tree:
        for name in paths:
            try:
                data = read_file(tree, name, limit + 1)
            except Fault as fault:
                raise UserError(f"failed to read {fault.message}") from fault
            if data is None:
                continue
            if len(data) > limit:
                raise UserError(f"failed to read {name}: larger than {limit >> 20} MiB")
            contents[name] = data
    return contents
