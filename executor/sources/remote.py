"""All sources of one build that come from elsewhere, behind one door.

Opened when a build is prepared and closed when it ends: a branch that moves meanwhile, or a file
that is replaced, is the same throughout, whether the Dockerfile is read from it or the context.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from pybuild.cache.store import Store
from pybuild.executor.steps.execop import Secrets
from pybuild.executor.workers.workers import Workers
from pybuild.model.digest import Digest
from pybuild.model.ops import GitSource, HttpSource
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.executor.sources.agents import AgentSocket, SshAgent
    from pybuild.executor.sources.download import Downloader, Limits, OnProgress
    from pybuild.executor.sources.git import GitTrees
    from pybuild.executor.sources.http import HttpFiles


class RemoteSources:
    """Http files, git trees and ssh agents of one build. An async context manager.

    Args:
        secrets: as the runner has them; some ids are credentials [SEC-3].
        ssh: what ``--ssh`` forwards.
        proves: the store has what others fetched: also what is known by its commit or checksum is
            asked for, so that nobody gets what its server does not let it read.
        environ: of the client: PATH, HOME (known hosts) and proxies.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        *,
        secrets: Secrets | None = None,
        ssh: Sequence[SshAgent] = (),
        environ: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        proves: bool = False,
    ) -> None:
        self._secrets: Secrets = {} if secrets is None else secrets
        self._environ = os.environ if environ is None else environ
        self._lease = store.leases.create()
        self._proves = proves
        self._limits = limits
        self._store, self._workers = store, workers
        self.agents: dict[str, AgentSocket] = {}
        self.add_agents(ssh)
        self._downloader: Downloader | None = None
        self._http: HttpFiles | None = None
        self._git: GitTrees | None = None

    @property
    def http(self) -> HttpFiles:
        """Made, and imported, when first needed: most builds have no such source."""
        if self._http is None:
            from pybuild.executor.sources.download import Downloader
            from pybuild.executor.sources.http import HttpFiles

            self._downloader = Downloader(self._environ, self._limits)
            self._http = HttpFiles(
                self._store,
                self._workers,
                self._lease,
                secrets=self._secrets,
                downloader=self._downloader,
                proves=self._proves,
            )
        return self._http

    @property
    def git(self) -> GitTrees:
        """As `http`."""
        if self._git is None:
            from pybuild.executor.sources.git import GitTrees

            self._git = GitTrees(
                self._store,
                self._workers,
                self._lease,
                secrets=self._secrets,
                agents=self.agents,
                bundle=self._bundle,
                environ=self._environ,
                proves=self._proves,
            )
        return self._git

    async def _bundle(self, op: GitSource) -> str:
        from pybuild.executor.sources.git import bundle_file

        file = bundle_file(op)
        there = await self.http.snapshot(file)
        return os.path.join(self._store.deltas.path(there.deltas[0]), file.filename)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End connections, agents and the lease; idempotent."""
        if self._http is not None:
            await self._http.close()
        if self._git is not None:
            await self._git.close()
        for agent in self.agents.values():
            await agent.close()
        if self._downloader is not None:
            await self._downloader.close()
        self._lease.close()

    def add_agents(self, agents: Sequence[SshAgent]) -> None:
        """Forward more agents, such as become known with what a build turns out to want."""
        if agents:
            from pybuild.executor.sources.agents import make_agents

            self.agents.update(make_agents(agents, self._store, self._workers))

    async def identify(self, op: HttpSource | GitSource) -> Digest:
        if isinstance(op, HttpSource):
            return await self.http.identify(op)
        return await self.git.identify(op)

    async def snapshot(
        self, op: HttpSource | GitSource, on_progress: OnProgress | None = None
    ) -> Snapshot:
        if isinstance(op, HttpSource):
            return await self.http.snapshot(op, on_progress)
        return await self.git.snapshot(op)

    async def changed(self, op: HttpSource | GitSource) -> int | None:
        """Return when what *op* stands for was last changed, in seconds; None if unknown [REP-1].

        Raises:
            UserError: there is no such thing. EnvironmentFault: unreachable.
        """
        if isinstance(op, HttpSource):
            return await self.http.changed(op)
        return await self.git.commit_time(op)
