"""Wires the rooms together: one `Engine` serves the command line, the Python API and, later, a daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Self

from pybuild import memo
from pybuild.abandon import abandonable
from pybuild.cache.builds import Builds
from pybuild.cache.results import Results
from pybuild.cache.rolling import RollingLease
from pybuild.cache.sizes import Extent
from pybuild.cache.store import Store
from pybuild.caching import enter_caching
from pybuild.config import Settings
from pybuild.contextkinds import is_at_hand
from pybuild.contexts import GIT_MODES, BuildInputs, load_inputs
from pybuild.definition import lower_options
from pybuild.elsewhere import load_from_elsewhere
from pybuild.entitlements import check_entitlements
from pybuild.epoch import Epochs
from pybuild.executor import network
from pybuild.executor.layers import Layers
from pybuild.executor.workers import Workers
from pybuild.explain import history
from pybuild.explain.account import Account, MissRefused
from pybuild.explain.text import refusal
from pybuild.export import export_all, is_delivered, results_of, succeeding
from pybuild.frontend.ast import Dockerfile
from pybuild.frontend.epoch import EpochSource
from pybuild.frontend.lower import lower
from pybuild.frontend.lowering import (
    ImageRequest,
    Lowered,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.parse import parse_dockerfile
from pybuild.frontend.physical import excerpts
from pybuild.host import SystemClock, native_platform
from pybuild.images import ImageSourceResolver
from pybuild.internal import internal_step, named_only
from pybuild.model.clock import Clock
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError
from pybuild.model.events import BuildWarning, Emit, Event, VertexCached
from pybuild.model.ops import LocalSource, walk
from pybuild.model.span import Span
from pybuild.outputchecks import check_outputs
from pybuild.paths import certificate_directories
from pybuild.pushahead import importing_ahead
from pybuild.registry.hosts import Hosts
from pybuild.render import unwrap
from pybuild.request import BuildRequest
from pybuild.result import BuildResult
from pybuild.session import Session
from pybuild.solver.drive import Solver
from pybuild.solving import solve
from pybuild.standardinput import StandardInput
from pybuild.upkeep import ceiling_of, keep_mounts, keep_within

if TYPE_CHECKING:
    from pybuild.attested import Describe
    from pybuild.cache.imported import ImportedCache
    from pybuild.executor.launch import Ahead
    from pybuild.explain.report import BuildReport
    from pybuild.registry.client import Client
    from pybuild.registry.credentials import Credentials
    from pybuild.s3bucket import Bucket
    from pybuild.s3options import S3Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A build whose definition is known and of which nothing has run.

    Attributes:
        lowered: one definition a platform, in the order asked for.
        session: closed when the build ends; otherwise when the engine does.
        epochs: what was asked for its time, for SOURCE_DATE_EPOCH.
        images: that the definitions are made from, by how they were asked for.
        started: when this began, seconds since the epoch.
    """

    request: BuildRequest
    inputs: BuildInputs
    dockerfile: Dockerfile
    lowered: tuple[Lowered, ...]
    session: Session
    epochs: tuple[EpochSource, ...] = ()
    images: Mapping[ImageRequest, ResolvedImage] = field(
        default_factory=dict[ImageRequest, ResolvedImage]
    )
    started: float = 0.0


class Engine:
    """A store, workers, a solver and a registry client, for any number of builds.

    Use as an async context manager; leaving it ends the workers and closes the store.

    Args:
        ahead: workers that were started already.
        to_read: nothing is to be built or freed; see `Store.open`.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        ahead: Ahead | None = None,
        *,
        to_read: bool = False,
    ) -> None:
        self.settings = settings
        self._to_read = to_read
        self._ahead = ahead
        self.clock = clock or SystemClock()
        self._stack = AsyncExitStack()
        self._client: Client | None = None
        self._cache_client: Client | None = None
        self._mountpoint: str | None = None
        self._sessions: set[Session] = set()
        self.buckets: dict[S3Place, Bucket] = {}

    async def __aenter__(self) -> Self:
        # What may complain comes before what must be ended: the configuration, then the store.
        self._hosts = Hosts(
            self.settings.registries, certificate_directories=certificate_directories()
        )
        self.workers = Workers(runtime=self.settings.runtime, ahead=self._ahead)
        self._stack.push_async_callback(self.workers.close)
        self._loop = asyncio.get_running_loop()
        self.store = Store.open(
            self.settings.root,
            self.clock,
            warn=self._warn,
            remover=None if os.geteuid() == 0 else self._remove,
            measurer=None if os.geteuid() == 0 else self._measure,
            to_read=self._to_read,
        )
        # In a thread: the store's janitor may be waiting for one of our workers.
        self._stack.push_async_callback(asyncio.to_thread, self.store.close)
        ceiling = ceiling_of(self.store, self.settings)
        if ceiling and not self._to_read:
            self.store.keep_below(ceiling)
            self.workers.room = self.store.room
        self.images = ImageSourceResolver(self.store, self.client, self.cache_client)
        self.rolling = RollingLease(self.store.leases)
        self._stack.callback(self.rolling.close)
        self.results = Results(self.store, self.rolling)
        self.solver = Solver(self.results, self.clock, self.settings.max_parallelism)
        self._stack.push_async_callback(self._close_sessions)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def client(self) -> Client:
        """The registry client, made when the network is first needed."""
        if self._client is None:
            self._client = self._client_of(self._hosts)
            self._stack.push_async_callback(self._client.close)
        return self._client

    def cache_client(self) -> Client:
        """The same for caches, which a build does not wait for as it does for images."""
        if self._cache_client is None:
            self._cache_client = self.client().impatient()
        return self._cache_client

    def credentials(self) -> Credentials:
        """What registries are told of who asks."""
        from pybuild.registry.credentials import DockerCredentials

        return DockerCredentials(os.environ)

    def _client_of(self, hosts: Hosts) -> Client:
        from pybuild.registry.client import Client

        return Client(hosts, self.credentials(), clock=self.clock, environ=os.environ)

    @asynccontextmanager
    async def client_for(self, insecure_hosts: Sequence[str]) -> AsyncGenerator[Client]:
        """Give the registry client, or one of its own that trusts *insecure_hosts* blindly [REG-9]."""
        if not insecure_hosts:
            yield self.client()
            return
        hosts = self._hosts
        for host in insecure_hosts:
            hosts = hosts.insecure(host)
        client = self._client_of(hosts)
        try:
            yield client
        finally:
            await client.close()

    def closing(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have *close* called when the engine ends."""
        self._stack.push_async_callback(close)

    def near(self, repository: str) -> list[str]:
        """*repository* and where mirrors have it: what was pulled through one can be mounted there."""
        host, _, path = repository.partition("/")
        places = [repository]
        for mirror in self._hosts.mirrors(host):
            below = mirror.prefix.removeprefix("/v2").strip("/")
            places.append("/".join(part for part in (mirror.netloc, below, path) if part))
        return places

    def _remove(self, path: str) -> int:
        """Delete a tree whose files belong to ids of the user namespace (not on our loop)."""
        work = self.workers.call("pybuild.executor.files.removing:remove", {"path": path})
        return int(asyncio.run_coroutine_threadsafe(work, self._loop).result()["freed"])

    def _measure(self, path: str) -> Extent:
        """Measure such a tree (not on our loop)."""
        work = self.workers.call("pybuild.executor.files.measuring:measure", {"path": path})
        found = asyncio.run_coroutine_threadsafe(work, self._loop).result()
        return Extent(int(found["size"]), bool(found["alone"]))

    def _warn(self, message: str) -> None:
        """What the store found wrong and mended; any thread."""
        sys.stderr.write(f"warning: {message}\n")

    async def userxattr(self) -> bool:
        """Whether deltas mark opaque directories with ``user.*`` attributes: in user namespaces."""
        return await self.workers.isolation() != "root"

    def layers(self) -> Layers:
        """What makes deltas present on disk; leased until the engine ends."""
        return Layers(self.store, self.workers, self.images, self.store.lease)

    async def tree_args(self, lowers: list[str]) -> dict[str, Any]:
        """What a worker must be told to mount the tree of *lowers*, directories base first."""
        return {
            "lowers": lowers,
            "userxattr": await self.userxattr(),
            "mount_dir": self.mount_dir(),
        }

    def mount_dir(self) -> str:
        """An empty directory; each worker mounts on it in a namespace of its own."""
        if self._mountpoint is None:
            self._mountpoint = self.store.scratch("mount")
            os.mkdir(self._mountpoint)
        return self._mountpoint

    def resolv_conf(self, *, host_network: bool) -> str:
        """The resolver configuration of a step or container [SBX-10]."""
        return network.step_resolv_conf(host_network=host_network, dns=self.settings.dns)

    def session(self, request: BuildRequest) -> Session:
        """Open what *request* may fetch from elsewhere, to be closed by `close`."""
        session = Session(
            self.store, self.workers, self.solver, self.images, self.settings, request
        )
        self._sessions.add(session)
        return session

    async def close(self, session: Session) -> None:
        """Close a session; idempotent."""
        self._sessions.discard(session)
        await session.close()

    async def _close_sessions(self) -> None:
        for session in list(self._sessions):
            await self.close(session)

    async def prepare(self, request: BuildRequest, emit: Emit) -> Prepared:
        """Read, parse and lower: everything up to the point where something would run.

        Raises:
            UserError: with the lines it is about; EnvironmentFault: a registry cannot be reached.
        """
        check_outputs(request)
        session = self.session(request)
        try:
            return await self._prepare(request, session, emit)
        except BaseException:
            await self.close(session)
            raise

    async def _prepare(self, request: BuildRequest, session: Session, emit: Emit) -> Prepared:
        stdin, started = StandardInput(), self.clock.now()
        loaded: tuple[BuildInputs, Dockerfile] | None = None
        images: dict[ImageRequest, ResolvedImage] = {}
        waits = request.context == "-"  # which is for people to see
        if waits or await abandonable(is_at_hand, request, stdin):
            async with internal_step("[internal] load build definition", emit, self.clock):
                if not waits or await abandonable(is_at_hand, request, stdin):
                    loaded = _parsed(await abandonable(load_inputs, request, stdin))
        if loaded is None:
            loaded = _parsed(await load_from_elsewhere(request, stdin, session, emit))
        inputs, dockerfile = loaded
        if request.git_modes and inputs.trees:
            async with internal_step(GIT_MODES, emit, self.clock):
                pass  # for people to see
        here = native_platform()
        platforms = request.platforms or (here,)
        epochs = Epochs(session.sources, emit, self.clock)
        with _sources(inputs.filename, dockerfile.lines):
            lowered = [
                await self._lower(
                    request,
                    dockerfile,
                    await epochs.settle(dockerfile, lower_options(request, inputs, platform, here)),
                    images,
                    emit,
                )
                for platform in platforms
            ]
            for one in lowered:
                check_entitlements(one.result, request.allow)
        for warning in lowered[0].warnings:
            emit(warning)
        return Prepared(
            request=request,
            inputs=inputs,
            dockerfile=dockerfile,
            lowered=tuple(lowered),
            session=session,
            epochs=epochs.sources,
            images=images,
            started=started,
        )

    async def build(
        self,
        prepared: Prepared,
        emit: Emit,
        *,
        describe: Describe | None = None,
        explained: Callable[[BuildReport], None] = lambda report: None,
    ) -> BuildResult:
        """Solve and export, and keep in the store's history which steps ran, and why.

        Args:
            describe: writes definitions into provenance that is to have them.
            explained: told that history at the end, also of a build that fails.

        Raises:
            StepError: a RUN failed; UserError, EnvironmentFault.
        """
        account = Account(refuse=prepared.request.fail_on_miss)
        imports: list[ImportedCache] = []

        async def keep(error: str) -> BuildReport | None:
            report = await history.keep(
                Builds(self.store),
                self.results.inputs,
                account,
                history.subject_of(prepared),
                imports,
                error,
            )
            if report is not None:
                explained(report)
            return report

        try:
            result = await self._build(prepared, emit, describe, account, imports)
        except Exception as error:
            cause = unwrap(error)
            report = await keep(cause.message if isinstance(cause, PybuildError) else str(cause))
            if isinstance(cause, MissRefused) and report is not None:
                cause.message += refusal(report)
            raise
        return replace(result, report=await keep(""))

    async def _build(
        self,
        prepared: Prepared,
        emit: Emit,
        describe: Describe | None,
        account: Account,
        imports: list[ImportedCache],
    ) -> BuildResult:
        request, session = prepared.request, prepared.session
        cached: set[str] = set()

        def watch(event: Event) -> None:
            if not isinstance(event, BuildWarning) and event.vertex in session.loaded:
                return  # told when it was read from
            if isinstance(event, VertexCached):
                cached.add(event.vertex)
            account.watch(event)
            emit(event)

        runner = session.runner(prepared.inputs.trees)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.close, session)
            stack.enter_context(_sources(prepared.inputs.filename, prepared.dockerfile.lines))
            stack.enter_context(succeeding(self.store, request))
            if request.no_cache or request.no_cache_filter:  # memos stand for old results [KEY-11]
                stack.callback(memo.forget, self.settings.root)
            async with runner:
                targets = [one.result for one in prepared.lowered]
                caching = await enter_caching(self, request, stack, emit)
                imports += caching.imports
                solution = await solve(
                    self,
                    targets,
                    runner,
                    named_only(watch),
                    whole=is_delivered(request),
                    progress=caching.follow(targets),
                    missed=importing_ahead(request, account.missed),
                )
                inline = await caching.inline([solution], targets)
                built = results_of(request, prepared.lowered, solution, inline)
                if request.attestations:
                    from pybuild.attested import Attestor

                    attestor = Attestor(self, prepared, runner, solution, describe, watch)
                    built = await attestor.attest(built)
                    exported = await export_all(self, request, built, emit)
                    exported = exported.telling(await attestor.metadata(os.environ))
                else:
                    exported = await export_all(self, request, built, emit)
                cache = await caching.export([solution], targets, emit)
                if cache is not None:
                    exported = exported.telling({"cache.manifest": cache.to_json()})
        if self.settings.durable:
            await asyncio.to_thread(self.store.deltas.flush)
        await self._keep_within_limits()
        steps = tuple(
            (vertex.meta.name, "CACHED" if vertex.digest in cached else "DONE")
            for vertex in walk(*(one.result for one in prepared.lowered))
            if vertex.meta.name
            and not isinstance(vertex.op, LocalSource)
            and vertex.digest not in session.loaded
        )
        warnings = prepared.lowered[0].warnings
        return BuildResult(
            image=exported.image,
            image_id=exported.image_id,
            names=exported.names,
            steps=steps,
            warnings=warnings,
            metadata=exported.metadata,
        )

    async def _keep_within_limits(self) -> None:
        """Free space if it is time to; a build that is done is not failed by it."""
        try:
            await asyncio.to_thread(keep_mounts, self.store, self.settings)
            await asyncio.to_thread(keep_within, self.store, self.settings.limits)
        except PybuildError as error:
            self._warn(f"cannot free space: {error.message}")

    async def _lower(
        self,
        request: BuildRequest,
        dockerfile: Dockerfile,
        options: LowerOptions,
        images: dict[ImageRequest, ResolvedImage],
        emit: Emit,
    ) -> Lowered:
        while True:
            answer = lower(dockerfile, options, images)
            if isinstance(answer, Lowered):
                return answer
            images |= await self._resolve_all(answer, request, emit)

    async def _resolve_all(
        self, need: NeedImages, request: BuildRequest, emit: Emit
    ) -> Mapping[ImageRequest, ResolvedImage]:
        async def resolve(wanted: ImageRequest, spans: tuple[Span, ...]) -> ResolvedImage:
            name = f"[internal] load metadata for {wanted.reference}"
            async with internal_step(name, emit, self.clock):
                try:
                    return await self.images.resolve(wanted, pull=request.pull)
                except PybuildError as error:
                    error.hints += need.hints(wanted)
                    raise error.with_spans(spans) from error.__cause__

        async with asyncio.TaskGroup() as group:
            tasks = {
                wanted: group.create_task(resolve(wanted, spans))
                for wanted, spans in zip(need.requests, need.spans, strict=True)
            }
        return {wanted: task.result() for wanted, task in tasks.items()}


def _parsed(inputs: BuildInputs) -> tuple[BuildInputs, Dockerfile]:
    """Parse what was loaded.

    Raises:
        UserError: with the lines it is about.
    """
    with _sources(inputs.filename, excerpts(inputs.dockerfile)):
        return inputs, parse_dockerfile(inputs.dockerfile, inputs.filename)


@contextmanager
def _sources(filename: str, lines: Sequence[str]) -> Generator[None]:
    """Give errors that pass through the text that their spans are about."""
    try:
        yield
    except Exception as error:
        cause = unwrap(error)
        if isinstance(cause, PybuildError):
            cause.sources = {filename: lines}
            if cause is not error:
                raise cause from error
        raise
