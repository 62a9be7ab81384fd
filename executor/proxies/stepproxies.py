"""The proxies of one build's steps: a network, an authority and a record for each of them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pybuild.cache.store import Store
from pybuild.executor.authorities import Authorities
from pybuild.executor.proxies.record import ProxyRecord
from pybuild.executor.proxies.server import Judge, StepProxy
from pybuild.executor.proxies.upstream import EgressSockets, Upstream
from pybuild.executor.stepnetworks import DefaultNetwork
from pybuild.executor.steps.spec import Connecting, StepMount
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault
from pybuild.model.ops import ExecOp, NetworkMode
from pybuild.net.certificates import Authority

if TYPE_CHECKING:
    from pybuild.executor.files import trusting
else:
    trusting = WorkerModule("pybuild.executor.files.trusting")

_MAKE = "pybuild.executor.zygote.proxyspace:make"
_NAME = "pybuild proxy of steps"
_DAYS = 30  # a build takes less
_MOST_HOSTS = 1024
_PORT = 17128  # the step's network is its own: nobody else listens there
_VARIABLES = {
    "HTTP_PROXY": f"http://127.0.0.1:{_PORT}",
    "HTTPS_PROXY": f"http://127.0.0.1:{_PORT}",
    "NO_PROXY": "127.0.0.1,localhost,::1",
}
_ENVIRONMENT = tuple(  # in both cases: few programs read both
    f"{name}={value}" for key, value in _VARIABLES.items() for name in (key, key.lower())
)
_LISTENER_S = 30.0


@dataclass(frozen=True, slots=True)
class ProxiedStep:
    """A step that has a proxy.

    Attributes:
        connecting: how it gets to its network.
        env: its variables about the proxy.
        default_env, mount: of the authorities that it trusts, which its own variables win over.
        record: its requests, as far as it has made them.
    """

    connecting: Connecting
    env: Sequence[str]
    default_env: Sequence[str]
    mount: StepMount
    record: ProxyRecord


class TrustedBundle:
    """The bundle of authorities in a step's tree, with the proxy's among them.

    Args:
        path: inside the tree.
    """

    def __init__(
        self, store: Store, workers: Workers, lowers: Sequence[str], upper: str, path: str
    ) -> None:
        self._store = store
        self._workers = workers
        self._lowers = lowers
        self._upper = upper
        self._path = path

    async def restore(self) -> None:
        """Take the authority out again; idempotent."""
        path, self._path = self._path, ""
        if path:
            directory = _directory(self._store)
            try:
                work = job(trusting.remove, directory, tuple(self._lowers), self._upper, path)
                await self._workers.call(work)
            finally:
                self._store.discard(directory)


class StepProxies:
    """Makes them; the first one makes what they share.

    Args:
        judge: has a say in every URL; None: nobody has.
        ca: files of further authorities, for steps and for the servers that they ask.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        network: DefaultNetwork,
        judge: Judge | None,
        ca: Sequence[str],
    ) -> None:
        self._store = store
        self._workers = workers
        self._network = network
        self._judge = judge or _let_pass
        self._ca = ca
        self._upstreams: dict[NetworkMode, Upstream] = {}
        self._authority: Authority | None = None
        self._trusted: Authorities | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._directory = ""
        self._lock = asyncio.Lock()
        self._count = 0

    @asynccontextmanager
    async def open(self, op: ExecOp, common: str) -> AsyncGenerator[ProxiedStep]:
        """Have a proxy for a step, until the block is left.

        Args:
            common: a directory that the steps of the build share.

        Raises:
            EnvironmentFault: there can be none.
        """
        async with self._lock:
            trusted = await self._prepare()
            self._count += 1
            name = str(self._count)
        upstream = await self._upstream(op.settings.network)
        record = ProxyRecord()
        proxy = StepProxy(upstream, self._context, self._judge, record)
        place = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            try:
                line.bind(f"/proc/self/fd/{place}/{name}")
            finally:
                os.close(place)
            line.listen(1)
            line.setblocking(False)
            serving = asyncio.create_task(_serve(line, proxy))
            try:
                words = (self._directory, name, str(_PORT))
                yield ProxiedStep(
                    connecting=Connecting(_MAKE, words, "127.0.0.1", once=True),
                    env=_ENVIRONMENT,
                    default_env=trusted.environment(op.env),
                    mount=await trusted.mount(common),
                    record=record,
                )
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await proxy.close()

    async def trust(self, lowers: Sequence[str], upper: str) -> TrustedBundle:
        """Write the proxy's authority into the bundle of a tree, if it has one."""
        assert self._authority is not None
        directory, work = _directory(self._store), self._store.scratch("work")
        try:
            add = job(
                trusting.add, directory, tuple(lowers), upper, work, self._authority.certificate
            )
            path = await self._workers.call(add)
        finally:
            self._store.discard(directory)
        return TrustedBundle(self._store, self._workers, lowers, upper, path)

    async def close(self) -> None:
        """Close all connections and remove what is there of it; idempotent."""
        for upstream in self._upstreams.values():
            await upstream.close()
        self._upstreams.clear()
        directory, self._directory = self._directory, ""
        if directory:
            self._store.discard(directory)

    async def _prepare(self) -> Authorities:
        if self._trusted is None:
            self._authority = await asyncio.to_thread(Authority, _NAME, _DAYS)
            self._directory = _directory(self._store)
            path = f"{self._directory}/ca.pem"
            await asyncio.to_thread(_write, path, self._authority.certificate)
            self._trusted = Authorities((*self._ca, path), "proxyca")
        return self._trusted

    async def _upstream(self, mode: NetworkMode) -> Upstream:
        async with self._lock:
            if mode not in self._upstreams:
                connection, connecting = await self._network.of(mode)
                if connection == "isolated":
                    raise EnvironmentFault(
                        "a proxy of steps reaches no network like that of slirp4netns",
                        hints=['set [network] mode = "auto" or "host", or build as root'],
                    )
                sockets = EgressSockets(self._workers, connecting) if connecting else None
                self._upstreams[mode] = Upstream(sockets, self._ca)
            return self._upstreams[mode]

    def _context(self, host: str) -> ssl.SSLContext:
        """Return the server's side of TLS for a host, made once."""
        known = self._contexts.get(host)
        if known is None:
            assert self._authority is not None
            if len(self._contexts) >= _MOST_HOSTS:
                self._contexts.clear()
            known = self._contexts[host] = _context_of(self._authority.of_host(host))
        return known


async def _let_pass(url: str) -> str:
    return url


def _context_of(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    fd = os.memfd_create("certificate")  # OpenSSL reads files alone, and this is for no disk
    try:
        os.write(fd, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


async def _serve(line: socket.socket, proxy: StepProxy) -> None:
    """Wait for the step's network, and serve in it."""
    near, _ = await asyncio.get_running_loop().sock_accept(line)
    with near:
        near.settimeout(_LISTENER_S)
        _, fds, _, _ = await asyncio.to_thread(socket.recv_fds, near, 1, 1)
    with socket.socket(fileno=fds[0]) as listener:
        listener.setblocking(False)
        await proxy.serve(listener)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _directory(store: Store) -> str:
    directory = store.scratch("proxy")
    os.mkdir(directory, 0o700)
    return directory
