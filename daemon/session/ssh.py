"""Agents of the client: sockets here whose connections end there [SEC-4]."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from pybuild.buildkit.fsutil.packet import MalformedPacket
from pybuild.buildkit.pb.sshforward import CheckAgentRequest
from pybuild.buildkit.session.bytesmessage import unwrap, wrap
from pybuild.buildkit.session.failures import failed
from pybuild.cache.store import Store
from pybuild.daemon.session.filesync import add_encoded
from pybuild.daemon.session.sessions import Session
from pybuild.executor.sources.agents import SshAgent
from pybuild.net.grpc.channel import ClientCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError

CHECK = "/moby.sshforward.v1.SSH/CheckAgent"
FORWARD = "/moby.sshforward.v1.SSH/ForwardAgent"
DEFAULT = "default"
_ID = "buildkit.ssh.id"
_TIMEOUT_S = 30.0
_MOST_CONNECTIONS = 64
_PIECE = 1 << 16


class SessionAgents:
    """The agents of one client, for one build. An async context manager.

    Whatever is said is handed on: the client's end decides what it lets through.
    """

    def __init__(self, session: Session, store: Store) -> None:
        self._session = session
        self._store = store
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()
        self._directory = ""
        self._fd = -1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            await asyncio.to_thread(self._store.discard, self._directory)

    async def offer(self, ids: Iterable[str]) -> tuple[SshAgent, ...]:
        """Return an agent for each of *ids* that the client has, for `RemoteSources`.

        Raises:
            Cancelled: the client has gone. UserError: its agent does not work.
        """
        agents: list[SshAgent] = []
        for id in sorted(set(ids)):
            if await self._has(id):
                path = await self._listen(id, f"s{len(agents)}")
                agents.append(SshAgent(id=id, socket=path, raw=True))
        return tuple(agents)

    async def _has(self, id: str) -> bool:
        if not (self._session.offers(CHECK) and self._session.offers(FORWARD)):
            return False
        request = CheckAgentRequest(ID=id).SerializeToString()
        try:
            await self._session.unary(CHECK, request, timeout=_TIMEOUT_S)
        except RpcError as error:
            if error.code in (Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED):
                raise failed(f"ssh agent {id}", error) from error
            return False  # the step that needs it says so
        return True

    async def _listen(self, id: str, name: str) -> str:
        if self._fd < 0:
            self._directory = self._store.scratch("ssh")
            os.mkdir(self._directory, 0o700)
            self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{self._fd}/{name}"  # short enough for a socket, wherever it is
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            server = await asyncio.start_unix_server(
                lambda reader, writer: self._accept(id, reader, writer), sock=listener
            )
        except BaseException:
            listener.close()
            raise
        self._servers.append(server)
        return path

    def _accept(self, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= _MOST_CONNECTIONS:
            writer.close()
            return
        # A task of ours: what the server starts itself must not be cancelled (Python 3.11).
        task = asyncio.create_task(self._serve(id, reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(
        self, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            metadata = Metadata()
            add_encoded(metadata, _ID, (id,))
            async with self._session.stream(FORWARD, metadata=metadata) as call:
                await _forward(call, reader, writer)
        except (RpcError, OSError, MalformedPacket):
            pass  # one of the two went away: so does the connection
        finally:
            writer.close()


async def _forward(
    call: ClientCall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry both directions until either ends."""

    async def upwards() -> None:
        while data := await reader.read(_PIECE):
            await call.send(wrap(data))
        await call.half_close()

    async def downwards() -> None:
        while (message := await call.receive()) is not None:
            writer.write(unwrap(message))
            await writer.drain()

    up, down = asyncio.create_task(upwards()), asyncio.create_task(downwards())
    try:
        # The client's end follows when ours has ended, but need not be waited for long.
        done, _ = await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if up in done:
            await asyncio.wait((down,), timeout=1.0)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        with suppress(OSError):
            writer.write_eof()
