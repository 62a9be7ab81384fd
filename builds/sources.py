"""The sources elsewhere that one build shares from its preparation to its end, fetched once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from pybuild.builds.lookups import note_vertices
from pybuild.builds.request import BuildRequest
from pybuild.engine.engine import Engine
from pybuild.engine.progress import named_only
from pybuild.executor.sources.remote import RemoteSources
from pybuild.executor.workers.job import JobService, WorkerModule, job
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, UserError
from pybuild.model.events import Emit, Event, VertexAdded
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import LocalTree, Snapshot

if TYPE_CHECKING:
    from pybuild.executor.files import jobs
    from pybuild.executor.proxies.server import Judge
    from pybuild.executor.runner import BuildRunner
    from pybuild.executor.sources.agents import SshAgent
    from pybuild.executor.steps.execop import Secrets
    from pybuild.executor.steps.spec import Connecting
    from pybuild.executor.trees.contexttrees import LocalTrees
    from pybuild.networks import buildnetwork
else:
    jobs = WorkerModule("pybuild.executor.files.jobs")
    buildnetwork = WorkerModule("pybuild.networks.buildnetwork")


async def _connect(workers: JobService, server: str) -> Connecting:
    from pybuild.networks import lastbuild, wayout  # most builds find all their steps in the cache

    # Here, not in a thread: that would wait for this one at each of its system calls.
    if known := lastbuild.look(wayout.SHARED, server):
        return known
    return await workers.call(job(buildnetwork.prepare, server), stay=True)


class BuildSources:
    """The remote sources of one build, and a way to read in them before its definition is known.

    A ref or a URL is the same throughout the build, whether the Dockerfile is read from it or
    the context.

    Args:
        cgroup: which the steps may not leave; empty: any.
        proves: nothing is taken from the store but what a source has shown that it has.
        judge: has a say in what steps ask their proxies for.

    Attributes:
        loaded: vertices that were solved for that; their events have been emitted.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        secrets: Secrets,
        allow: frozenset[str],
        ssh: Sequence[SshAgent] = (),
        cgroup: str = "",
        proves: bool = False,
        judge: Judge | None = None,
    ) -> None:
        self.store = engine.store
        self._engine = engine
        self._secrets = secrets
        self._allow = allow
        self._cgroup = cgroup
        self._judge = judge
        self._stack = AsyncExitStack()
        self._reader: BuildRunner | None = None
        self.loaded: set[Digest] = set()
        self.remote = RemoteSources(
            self.store,
            engine.workers,
            secrets=secrets,
            ssh=ssh,
            proves=proves,
        )
        self._stack.push_async_callback(self.remote.close)

    def runner(self, trees: Mapping[str, LocalTree] | LocalTrees) -> BuildRunner:
        """Return a runner on these sources and local *trees*, to be entered by the caller."""
        settings = self._engine.settings
        return self._engine.runners(
            self.store,
            self._engine.workers,
            fetcher=self._engine.images,
            locals=trees,
            secrets=self._secrets,
            dns=settings.dns,
            network_mode=settings.network,
            connect=_connect,
            ca=settings.ca,
            cgroup=self._cgroup,
            allow=settings.devices.granted(self._allow),
            devices=settings.devices.directories,
            judge=self._judge,
            sources=self.remote,
        )

    async def tree(self, vertex: Vertex, emit: Emit) -> Snapshot:
        """Solve *vertex*, which is a source or made of sources, and return its tree.

        It stays leased until the sources are closed.

        Raises:
            UserError, EnvironmentFault: it cannot be fetched.
        """
        note_vertices([vertex])
        if self._reader is None:
            self._reader = await self._stack.enter_async_context(self.runner({}))

        def note(event: Event) -> None:
            if isinstance(event, VertexAdded):
                self.loaded.add(event.vertex)
            emit(event)

        solution = await self._engine.solver.solve([vertex], self._reader, named_only(note))
        result = solution.of(vertex).result
        if not isinstance(result, Snapshot):
            raise InternalError(f"{vertex.meta.name} gave {type(result).__name__}")
        return result

    async def read(self, tree: Snapshot, path: str, limit: int) -> bytes | None:
        """Return at most *limit* bytes of a file of *tree*; None when it is not there.

        Raises:
            UserError: there is something that is no file.
        """
        try:
            return await self._engine.read_tree(jobs.read, tree.deltas, path, limit)
        except UserError as error:
            raise error.saying(f"failed to read {error.message}") from error

    async def close(self) -> None:
        """Give up the fetched sources; idempotent."""
        await self._stack.aclose()


def open_sources(engine: Engine, request: BuildRequest) -> BuildSources:
    """Open the sources of *request*; the engine closes them with itself at the latest."""
    sources = BuildSources(
        engine,
        secrets={name: partial(secret.read) for name, secret in request.secrets.items()},
        ssh=request.ssh,
        allow=request.allow,
    )
    engine.hold(sources)
    return sources
