"""The engine as one client's build sees it: the client's directories, credentials, secrets, agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from pybuild.buildkit.llb.files import ReceivedActions
from pybuild.buildkit.pb.ops import SourceInfo
from pybuild.builds.delivery import Solves
from pybuild.builds.entitlements import check_entitlements
from pybuild.builds.epoch import Epochs
from pybuild.builds.lookups import note_vertices
from pybuild.builds.lowering import Lookup
from pybuild.builds.sources import BuildSources
from pybuild.builds.verdicts import Decide, decided_of, nobody_decides
from pybuild.daemon.builds.blobs import take_from_client, take_from_registry
from pybuild.daemon.builds.caches import Imports
from pybuild.daemon.builds.layouts import ClientLayouts
from pybuild.daemon.builds.onethread import OneThread
from pybuild.daemon.builds.trees import ClientTrees, FindSession
from pybuild.daemon.session.auth import SessionCredentials
from pybuild.daemon.session.secrets import SessionSecrets
from pybuild.daemon.session.ssh import DEFAULT, SessionAgents
from pybuild.daemon.session.upload import adopt
from pybuild.executor.steps.execop import Secrets
from pybuild.frontend.giturl import without_credentials
from pybuild.frontend.lowering.interface import ImageRequest, ResolvedImage
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.events import Emit
from pybuild.model.ops import (
    ExecOp,
    GitSource,
    HttpSource,
    LocalSource,
    Mount,
    MountType,
    NetworkMode,
    Op,
    SecurityMode,
    Vertex,
    walk,
)
from pybuild.model.policy import PolicySource
from pybuild.model.snapshot import Result, Snapshot
from pybuild.model.span import Span
from pybuild.registry.client.credentials import NoCredentials

if TYPE_CHECKING:
    from pybuild.buildkit.llb.queries import BlobQuery, LocalQuery
    from pybuild.cache.records.imported import ImportedCache
    from pybuild.daemon.control.workplaces import Workplace
    from pybuild.daemon.session.sessions import Session
    from pybuild.executor.steps.container import StepContainer
    from pybuild.model.policy import Policies
    from pybuild.remotecache.session import CacheSession
    from pybuild.solver.solution import Solution

T = TypeVar("T")

MAX_VERTICES = 20_000
"""Of one build: keeping account of so many takes seconds of a processor."""


class Scope:
    """The things that one build shares from first to last. An async context manager.

    Everything that was solved in it stays leased until it is left.

    Args:
        find: returns another session of the same client by its id.
        cgroup: which the steps may not leave.
        thread: in which the owner's definitions are read.
        proxied: steps reach a proxy of ours alone, where the policies have a say in each request.

    Attributes:
        files, infos: whole files that errors may name lines of, and what else clients say of them.
        received: the digests of vertices, by the ids of the ops that they were made of.
        actions: the places of vertices in file ops that were received, by their digests.
        imports: the caches that it looks into.
        policies: judge all its sources; *decide* gets the verdict about one that they demand.
        solves: the way to make vertices, and all that was made so.
    """

    def __init__(
        self,
        workplace: Workplace,
        session: Session | None,
        *,
        find: FindSession,
        allow: frozenset[str],
        cgroup: str,
        emit: Emit,
        thread: OneThread,
        noted: Callable[[bytes], None],
        proxied: bool = False,
    ) -> None:
        self.in_thread = thread.run
        self._stack = AsyncExitStack()
        engine = workplace.engine
        self.workplace = workplace
        self.session = session
        self._lenders: list[Session] = []  # of secrets: its own first
        self._offered: set[str] = set()
        self._uploads: dict[tuple[str, str], asyncio.Task[HttpSource]] = {}
        self.allow = allow
        self._is_proxied = proxied
        self.emit = emit
        self.engine = engine.for_client(
            SessionCredentials(session) if session else NoCredentials(),
            names=workplace.names,
            shares=bool(workplace.guest),
        )
        self.store = self.engine.store
        self.files: dict[str, bytes] = {}
        self.infos: dict[str, SourceInfo] = {}
        self.received: dict[str, str] = {}
        self.actions: dict[Digest, ReceivedActions] = {}
        self.solves = Solves(self.engine)
        self.imports = Imports(self)
        self.policies: Policies | None = None
        self.decide: Decide = nobody_decides
        secrets: Secrets = {}
        if session is not None:
            self._lenders.append(session)
            loop = asyncio.get_running_loop()
            secrets = session_secrets = SessionSecrets(self._lenders, loop, noted)
            self._stack.callback(session_secrets.close)
        self._own = BuildSources(
            self.engine,
            secrets=secrets,
            allow=allow,
            cgroup=cgroup,
            proves=bool(workplace.guest),
            judge=self._judge if proxied else None,
        )
        self.sources = self._own.remote
        self.read = self._own.read
        self._agents = SessionAgents(session, self.store) if session else None
        self.layouts = ClientLayouts(session, self.engine.images, self.store)
        self.trees = ClientTrees(session, find, workplace.sync)
        self.runner = self._own.runner(self.trees)

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self.engine.close)
        self._stack.push_async_callback(self.trees.close)
        if self._agents is not None:
            await self._stack.enter_async_context(self._agents)
        self._stack.push_async_callback(self._own.close)
        await self._stack.enter_async_context(self.runner)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def solve(self, targets: Sequence[Vertex]) -> Solution:
        """Make *targets*.

        Raises:
            PybuildError: one of their steps failed.
        """
        note_vertices(targets)
        await self.in_thread(partial(self._check, targets))
        await self._offer_agents(targets)
        if self.workplace.guest:
            await self._show_files(targets)
        return await self.solves.solve(targets, self.runner, self.emit)

    def _check(self, targets: Sequence[Vertex]) -> None:
        if sum(1 for _ in walk(*targets)) > MAX_VERTICES:
            raise UserError(f"a build has at most {MAX_VERTICES:,} steps")
        for target in targets:
            given = self.engine.settings.devices
            check_entitlements(target, given.granted(self.allow), given.directories)

    def owned(self, vertex: Vertex) -> Vertex:
        """Return a definition as it is for this client where it is made."""
        guest = self.workplace.guest
        vertex = marked(vertex, guest) if guest else vertex
        return _rewritten(vertex, _proxied) if self._is_proxied else vertex

    async def _judge(self, url: str) -> str:
        """Return the URL that a step gets for *url* (for `executor.proxies`).

        Raises:
            UserError: a policy refuses it, or has more to say than that.
        """
        policies = self.policies
        if not policies:
            return url
        source = PolicySource(identifier=url)

        async def judged() -> PolicySource:
            return policies.apply(source)

        target = await decided_of(judged, self.decide)
        if target.attrs:
            raise UserError(f'source "{url}": a policy gives attributes to what a step asks for')
        return target.identifier

    async def decided(self, work: Callable[[], T]) -> T:
        """Return the result of *work*, begun again with each verdict on a source that it lacks."""
        return await decided_of(partial(self.in_thread, work), self.decide)

    def carry(self, cache_session: CacheSession) -> None:
        """Leave the session of its remote caches when the scope is left."""
        self._stack.push_async_exit(cache_session.leaving(self.emit))

    def find_in(self, caches: Sequence[ImportedCache]) -> None:
        """Find in *caches* the results that the store does not have, until the scope is left."""
        self._stack.enter_context(self.engine.results.importing(caches))

    def afterwards(self, work: Callable[[], object]) -> None:
        """Have *work* done when the scope is left."""
        self._stack.callback(work)

    def afterwards_await(self, work: Callable[[], Awaitable[object]]) -> None:
        """Have *work* done and awaited when the scope is left."""
        self._stack.push_async_callback(work)

    def borrow_secrets(self, maker: Scope) -> None:
        """Look for secrets where *maker* does, too: the build has a part of that one of its owner."""
        if self.session is not None:
            self._lenders += [one for one in maker._lenders if one not in self._lenders]

    def client_name(self, op: LocalSource) -> str:
        """Return the client's name of a directory."""
        return self.trees.client_name(op)

    def queries(self, ops: Iterable[LocalSource]) -> Mapping[str, LocalQuery]:
        """Return the queries for directories, by the names of their sources."""
        return self.trees.queries(ops)

    async def _offer_agents(self, targets: Sequence[Vertex]) -> None:
        """Ask the client for the agents that steps and repositories want, before they do."""
        if self._agents is None:
            return
        missing = await self.in_thread(partial(_agents, targets)) - self._offered
        self._offered |= missing
        if missing:
            self.sources.add_agents(await self._agents.offer(missing))

    async def _show_files(self, targets: Sequence[Vertex]) -> None:
        """Fetch files that are known by a checksum, which alone would find files of other clients."""
        for op, spans in await self.in_thread(partial(_known_files, targets)):
            try:
                await self.sources.http.file(op)
            except PybuildError as error:
                raise error.with_spans(spans) from error.__cause__

    async def adopt_upload(self, id: str, filename: str) -> HttpSource:
        """Take the client's upload *id*, once, as a file that is here already."""
        task = self._uploads.get((id, filename))
        if task is None:
            if self.session is None:
                raise UserError("no session to upload from")
            task = asyncio.create_task(
                adopt(self.session, self.store, self.sources.http, id, filename)
            )
            self._uploads[id, filename] = task
        return await asyncio.shield(task)

    async def adopt_blob(self, query: BlobQuery) -> HttpSource:
        """Take a blob of a registry or of the client, as a file that is here already."""
        op = query.source()
        # A guest fetches it again: so it shows that it may have it.
        if self.workplace.guest or not await self.sources.http.has(op):
            if query.is_layout:
                await take_from_client(query, self.session, self.store, self.sources.http)
            else:
                await take_from_registry(query, self.engine.client(), self.store, self.sources.http)
        return op

    async def snapshot(self, vertex: Vertex) -> Snapshot:
        """Return the tree of *vertex*; a client's directory is copied into the store for that."""
        result = (await self.solve([vertex])).of(vertex).result
        return await self.runner.snapshot(result)

    @asynccontextmanager
    async def container(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result]
    ) -> AsyncGenerator[StepContainer]:
        """Give a container with the tree and the mounts of *op*."""
        await self._offer_agents([vertex])
        async with self.runner.container(vertex, op, inputs) as container:
            yield container

    async def tree(self, vertex: Vertex, emit: Emit) -> Snapshot:
        """Solve a source and return its tree (for `pybuild.builds.fetchedcontexts`)."""
        return await self.snapshot(vertex)

    def lookup(self, *, pull: bool) -> Lookup:
        """Return the way to images for a frontend: registries, and the client's own layouts."""

        async def image(request: ImageRequest) -> ResolvedImage:
            if request.layout:
                return await self.layouts.resolve(request)
            return await self.engine.images.resolve(request, pull=pull)

        clock = self.engine.clock
        return Lookup(
            image=image,
            epochs=Epochs(self.sources, self.emit, clock, self.in_thread),
            emit=self.emit,
            clock=clock,
            decide=self.decide,
            in_thread=self.in_thread,
        )


def _agents(targets: Sequence[Vertex]) -> set[str]:
    ids: set[str] = set()
    for vertex in walk(*targets):
        match vertex.op:
            case ExecOp(mounts=mounts):
                ids |= {mount.id for mount in mounts if mount.type is MountType.SSH}
            case GitSource():
                ids.add(DEFAULT)
            case _:
                pass
    return ids


def _known_files(targets: Sequence[Vertex]) -> list[tuple[HttpSource, tuple[Span, ...]]]:
    return [
        (vertex.op, vertex.meta.spans)
        for vertex in walk(*targets)
        if isinstance(vertex.op, HttpSource) and vertex.op.checksum is not None
    ]


_UNKEYED = (MountType.SECRET, MountType.SSH, MountType.CACHE)


def marked(vertex: Vertex, owner: str) -> Vertex:
    """Return the definition *vertex* as it is for *owner*; the same one where nothing is special.

    A step's key does not tell its secrets, its agents, what its cache mounts hold, its proxies or
    the addresses of its hosts. Where such a thing goes in, the owner does too, so that the result is
    found by nobody else; its cache mounts are the owner's alone. A commit's key says nothing of the
    remote, which alone can say whether somebody may read it; so that goes in as well.
    """
    return _rewritten(vertex, partial(_marked, owner=owner))


def _rewritten(vertex: Vertex, change: Callable[[Op], Op]) -> Vertex:
    """Return a definition with its ops changed; the same one where none is."""
    known: dict[str, Vertex] = {}
    for one in walk(vertex):
        op = change(one.op)
        inputs = tuple(known[source.digest] for source in one.inputs)
        is_same = op is one.op and all(
            new is old for new, old in zip(inputs, one.inputs, strict=True)
        )
        known[one.digest] = one if is_same else Vertex(op, inputs, one.meta)
    return known[vertex.digest]


def _proxied(op: Op) -> Op:
    """Return a step as one that has a proxy; its result is found by no build that has none, nor theirs by it."""
    if not isinstance(op, ExecOp) or op.settings.network is NetworkMode.NONE:
        return op
    return op if op.proxied else replace(op, proxied=True)


def _marked(op: Op, owner: str) -> Op:
    match op:
        case GitSource(origin=""):
            # Whoever has a bundle has shown that, and nothing of the remote.
            return replace(op, origin=op.bundle or without_credentials(op.remote))
        case ExecOp(owner="") if _takes_what_no_key_tells(op):
            mounts = tuple(_mount(mount, owner) for mount in op.mounts)
            return replace(op, owner=owner, mounts=mounts)
        case _:
            return op


def _takes_what_no_key_tells(op: ExecOp) -> bool:
    return (
        any(mount.type in _UNKEYED for mount in op.mounts)
        or bool(op.proxy_env or op.settings.add_hosts)
        or op.security is SecurityMode.INSECURE
    )


def _mount(mount: Mount, owner: str) -> Mount:
    if mount.type is not MountType.CACHE:
        return mount
    return replace(mount, cache_id=f"{owner}/{mount.cache_id or mount.target}")
