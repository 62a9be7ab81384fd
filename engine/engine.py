"""The engine: the store, workers, solver, base images and registry clients that builds are handed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Concatenate, Protocol, Self, TypeVar, cast

from pybuild.cache.content.leases import RollingLease
from pybuild.cache.records.results import Results
from pybuild.cache.store import Store
from pybuild.engine.baseimages import ImageSourceResolver
from pybuild.engine.host import SystemClock
from pybuild.engine.limits import ceiling_of
from pybuild.engine.paths import certificate_directories
from pybuild.engine.settings import Settings
from pybuild.executor import network
from pybuild.executor.files.values import ExportTree
from pybuild.executor.layers import Layers
from pybuild.executor.runner import BuildRunner
from pybuild.executor.workers.job import Answer, Args, WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.printable import in_log
from pybuild.solver.drive import Solver

if TYPE_CHECKING:
    from pybuild.cache.disk.extent import Extent
    from pybuild.executor.files import jobs
    from pybuild.executor.workers.launch import Ahead
    from pybuild.model.border import WorkerCall
    from pybuild.model.clock import Clock
    from pybuild.registry.client.client import Client
    from pybuild.registry.client.credentials import Credentials
    from pybuild.registry.client.hosts import Hosts
else:
    jobs = WorkerModule("pybuild.executor.files.jobs")


class Closing(Protocol):
    """A resource that is open until it is closed."""

    async def close(self) -> None: ...


_Kept = TypeVar("_Kept", bound=Closing)


class Engine:
    """A store, workers, a solver and a registry client, for any number of builds.

    Use as an async context manager; leaving it ends the workers and closes the store.

    Args:
        ahead: workers that were started already.
        to_read: nothing is to be built or freed; see `Store.open`.

    Attributes:
        runners: makes the runner of a build, of what `BuildRunner` takes; others of it may run steps
            elsewhere.
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
        self._credentials: Credentials | None = None
        self._client: Client | None = None
        self._cache_client: Client | None = None
        self._hosts: Hosts | None = None
        self._mountpoint: str | None = None
        self._held: set[Closing] = set()
        self._shared: dict[Hashable, Closing] = {}
        self.runners: Callable[..., BuildRunner] = BuildRunner

    async def __aenter__(self) -> Self:
        # What may complain comes before what must be ended: the configuration, then the store.
        if self.settings.registries:
            self.hosts()
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
            from pybuild.cache.space.ceiling import keep_below

            keep_below(self.store, ceiling)
            self.workers.budget = self.store.budget
        self.images = ImageSourceResolver(self.store, self.client, self.cache_client)
        self.rolling = RollingLease(self.store.leases)
        self._stack.callback(self.rolling.close)
        self.results = Results(self.store, self.rolling)
        self.solver = Solver(self.results, self.clock, self.settings.max_parallelism)
        self._stack.push_async_callback(self._release_all)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all that is open; idempotent."""
        await self._stack.aclose()

    def for_client(
        self, credentials: Credentials, *, names: str = "", shares: bool = False
    ) -> Engine:
        """Return the engine as one client's builds see it, to be closed: what differs is who asks registries.

        It counts as a job of this one: what it uses of the store is kept until it is closed.

        Args:
            names: the place in the store of the names of images that it knows.
            shares: the store has what others brought as well.
        """
        guest = copy(self)
        guest._credentials = credentials
        guest._client = guest._cache_client = None
        guest._held, guest._shared = set(), {}
        guest._mountpoint = self.mount_dir()
        guest._stack = AsyncExitStack()
        guest.store = guest._stack.enter_context(self.store.view(names))
        guest._stack.enter_context(self.rolling.during())
        guest.images = ImageSourceResolver(
            guest.store, guest.client, guest.cache_client, is_guest=shares
        )
        guest.images.peers = self.images.peers
        guest._stack.push_async_callback(guest._release_all)
        return guest

    def hosts(self) -> Hosts:
        """The configuration of registries; read when first needed, or when there is any."""
        if self._hosts is None:
            from pybuild.registry.client.hosts import Hosts

            self._hosts = Hosts(
                self.settings.registries,
                certificate_directories=certificate_directories(),
                file=self.settings.config,
            )
        return self._hosts

    def client(self) -> Client:
        """The registry client, made when the network is first needed."""
        if self._client is None:
            self._client = self._client_of(self.hosts())
            self._stack.push_async_callback(self._client.close)
        return self._client

    def cache_client(self) -> Client:
        """The same for caches, for which a build does not wait as it does for images."""
        if self._cache_client is None:
            self._cache_client = self.client().impatient()
        return self._cache_client

    def credentials(self) -> Credentials:
        """Return the registry credentials: a client's, or those of docker's configuration."""
        if self._credentials is not None:
            return self._credentials
        from pybuild.registry.client.credentials import DockerCredentials

        return DockerCredentials(os.environ, self.settings.logins)

    def _client_of(self, hosts: Hosts) -> Client:
        from pybuild.registry.client.client import Client

        return Client(hosts, self.credentials(), clock=self.clock, environ=os.environ)

    @asynccontextmanager
    async def client_for(self, insecure_hosts: Sequence[str]) -> AsyncGenerator[Client]:
        """Give the registry client, or one of its own that trusts *insecure_hosts* blindly [REG-9]."""
        if not insecure_hosts:
            yield self.client()
            return
        hosts = self.hosts()
        for host in insecure_hosts:
            hosts = hosts.insecure(host)
        client = self._client_of(hosts)
        try:
            yield client
        finally:
            await client.close()

    def shared(self, key: Hashable, make: Callable[[], _Kept]) -> _Kept:
        """Return the one resource that all builds use as *key*; open until the engine ends."""
        if key not in self._shared:
            self._shared[key] = resource = make()
            self.hold(resource)
        return cast("_Kept", self._shared[key])

    def near(self, repository: str) -> list[str]:
        """*repository* and where mirrors have it: what was pulled through one can be mounted there."""
        host, _, path = repository.partition("/")
        places = [repository]
        for mirror in self.hosts().mirrors(host):
            below = mirror.prefix.removeprefix("/v2").strip("/")
            places.append("/".join(part for part in (mirror.netloc, below, path) if part))
        return places

    def _remove(self, path: str) -> int:
        """Delete a tree whose files belong to ids of the user namespace (not on our loop)."""
        work = self.workers.call(job(jobs.remove, path))
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _measure(self, path: str) -> Extent:
        """Measure such a tree (not on our loop)."""
        work = self.workers.call(job(jobs.measure, path))
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _warn(self, message: str) -> None:
        """Print a fault that the store found and mended; any thread."""
        sys.stderr.write(f"warning: {in_log(message)}\n")

    async def userxattr(self) -> bool:
        """Return whether deltas mark opaque directories with ``user.*`` attributes: in user namespaces."""
        return await self.workers.isolation() != "root"

    def layers(self) -> Layers:
        """The maker of deltas on the disk; what it makes is leased until the engine ends."""
        return Layers(self.store, self.workers, self.images, self.store.lease)

    async def export_tree(self, lowers: Sequence[str]) -> ExportTree:
        """Return the tree of *lowers*, directories base first, for a worker that writes it elsewhere."""
        return ExportTree(lowers, self.mount_dir(), await self.userxattr())

    async def read_tree(
        self,
        function: Callable[Concatenate[WorkerCall, str, Sequence[str], Args], Answer],
        deltas: Sequence[str],
        *args: Args.args,
        **named: Args.kwargs,
    ) -> Answer:
        """Return the answer of a worker's *function* that mounts the tree of *deltas* to read in it."""
        lowers = await self.layers().ensure(deltas, lambda _: None)
        return await self.workers.call(job(function, self.mount_dir(), lowers, *args, **named))

    def mount_dir(self) -> str:
        """An empty directory; each worker mounts on it in a namespace of its own."""
        if self._mountpoint is None:
            self._mountpoint = self.store.scratch("mount")
            os.mkdir(self._mountpoint)
        return self._mountpoint

    def resolv_conf(self, *, host_network: bool) -> str:
        """The resolver configuration of a step or container [SBX-10]."""
        return network.step_resolv_conf(host_network=host_network, dns=self.settings.dns)

    def hold(self, resource: Closing) -> None:
        """Keep *resource* open until it is released, or the engine ends."""
        self._held.add(resource)

    async def release(self, resource: Closing) -> None:
        """Close a resource; idempotent."""
        self._held.discard(resource)
        await resource.close()

    async def _release_all(self) -> None:
        for resource in list(self._held):
            await self.release(resource)
