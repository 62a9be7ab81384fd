"""The user's ssh agent for steps and git: a socket that lists keys and signs, nothing else [SEC-4].

Each id has one socket in the store, made when first wanted. Behind it is the user's own agent, an
agent of ours that holds the given keys, or, with ``raw``, any socket at all.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from pybuild.cache.disk.plainfile import plain
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError

if TYPE_CHECKING:
    from pybuild.executor.files import jobs
    from pybuild.executor.sources import keyagent
else:
    jobs = WorkerModule("pybuild.executor.files.jobs")
    keyagent = WorkerModule("pybuild.executor.sources.keyagent")

_LIST, _SIGN = 11, 13
_FAILURE = struct.pack(">IB", 1, 5)
_MAX_MESSAGE_BYTES = 256 << 10
_MAX_CLIENTS = 64
NAME = "agent"


class Places(Protocol):
    """A lender of directories for sockets: a store, or a client that has none."""

    def scratch(self, label: str = "") -> str:
        """Return a path that is free."""
        ...

    def discard(self, path: str) -> None:
        """Delete what is there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAgent:
    """One ``--ssh``.

    Attributes:
        socket: of an agent; empty when there are *keys*.
        keys: private keys without passphrase, by file name.
        raw: hand on whatever is said, to whatever *socket* is.
    """

    id: str
    socket: str = ""
    keys: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    raw: bool = False


class AgentSocket:
    """The socket of one id; starts when first asked for."""

    def __init__(self, agent: SshAgent, store: Places, workers: Workers) -> None:
        self._agent = agent
        self._store = store
        self._workers = workers
        self._lock = asyncio.Lock()
        self._servers: dict[str, asyncio.Server] = {}
        self._directory = ""
        self._fd = -1
        self._upstream: _Upstream | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def directory(self) -> int:
        """Return a descriptor of the directory in which the socket `NAME` stands; it stays ours.

        Raises:
            UserError: a key cannot be used. EnvironmentFault: there is no agent to be had.
        """
        async with self._lock:
            await self._listen(NAME, 0o600)
        return self._fd

    async def path(self, uid: int, gid: int, mode: int) -> str:
        """Return the path of a socket that belongs to an id of a step, for a bind mount.

        It may be too long to connect to.

        Raises:
            As `directory`.
        """
        name = f"{NAME}-{uid}-{gid}-{mode:o}"
        async with self._lock:
            is_new = await self._listen(name, mode)
            path = os.path.join(self._directory, name)
            if is_new and (uid or gid):
                await self._workers.call(job(jobs.own, path, uid, gid, mode))
        return path

    async def _listen(self, name: str, mode: int) -> bool:
        """Open the socket *name*, and say whether it is new."""
        if name in self._servers:
            return False
        if self._agent.keys and self._upstream is None:
            self._upstream = await _own_agent(self._agent, self._store, self._workers)
        if self._fd < 0:
            self._directory, self._fd = await asyncio.to_thread(_make_directory, self._store)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(f"/proc/self/fd/{self._fd}/{name}")  # a short name for any place
            os.chmod(name, mode, dir_fd=self._fd)
            self._servers[name] = await asyncio.start_unix_server(self._serve, sock=listener)
        except BaseException:
            listener.close()
            raise
        return True

    async def close(self) -> None:
        """Stop listening and end the agent that was started; idempotent."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._upstream is not None:
            await self._upstream.close()
            self._upstream = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._store.discard(self._directory)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) <= _MAX_CLIENTS:
                await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two went away
        finally:
            self._clients.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = self._upstream.path if self._upstream is not None else self._agent.socket
        above, to_agent = await asyncio.open_unix_connection(path)
        try:
            if self._agent.raw:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, to_agent))
                    group.create_task(_pump(above, writer))
                return
            while True:
                request = await _message(reader)
                if request[4] not in (_LIST, _SIGN):
                    writer.write(_FAILURE)
                else:
                    to_agent.write(request)
                    await to_agent.drain()
                    writer.write(await _message(above))
                await writer.drain()
        finally:
            to_agent.close()


def make_agents(
    agents: Sequence[SshAgent], store: Places, workers: Workers
) -> Mapping[str, AgentSocket]:
    return {agent.id: AgentSocket(agent, store, workers) for agent in agents}


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read one message of the agent protocol; raises OSError for what is none."""
    head = await reader.readexactly(4)
    size = int.from_bytes(head, "big")
    if not 0 < size <= _MAX_MESSAGE_BYTES:
        raise OSError(f"an agent message of {size} bytes")
    return head + await reader.readexactly(size)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


def _make_directory(store: Places) -> tuple[str, int]:
    path = store.scratch("ssh")
    os.mkdir(path, 0o700)
    return path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


# --- an agent of our own --------------------------------------------------------------------------


class _Upstream:
    """An ``ssh-agent`` in a worker, which lives as long as this."""

    def __init__(self, task: asyncio.Task[None], store: Places, directory: str, fd: int) -> None:
        self.path = f"/proc/self/fd/{fd}/{NAME}"
        self._task = task
        self._store = store
        self._directory = directory
        self._fd = fd

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError, PybuildError):
            await self._task
        os.close(self._fd)
        self._store.discard(self._directory)


async def _own_agent(agent: SshAgent, store: Places, workers: Workers) -> _Upstream:
    directory, fd = await asyncio.to_thread(_make_directory, store)
    ready = asyncio.Event()
    programs = os.environ.get("PATH", "/usr/bin:/bin")
    work = job(keyagent.serve, [(name, data) for name, data in agent.keys], programs)
    task = asyncio.create_task(workers.call(work, fds=[fd], on_progress=lambda _: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    except BaseException:
        await _Upstream(task, store, directory, fd).close()
        raise
    finally:
        waiting.cancel()
    if task.done():
        os.close(fd)
        store.discard(directory)
        error = task.exception()
        if isinstance(error, PybuildError):
            raise error
        raise EnvironmentFault("ssh-agent ended by itself") from error
    return _Upstream(task, store, directory, fd)


def read_key(id: str, path: str) -> bytes:
    """Return a private key for an agent of ours.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        with open(path, "rb", opener=plain) as file:
            data = file.read((100 << 10) + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f'ssh "{id}": cannot read {path}: {reason}') from error
    if len(data) > 100 << 10 or b"PRIVATE KEY-----" not in data:
        raise UserError(
            f'ssh "{id}": {path} is neither a private key nor a socket',
            hints=("name an agent's socket or a private key file",),
        )
    return data
