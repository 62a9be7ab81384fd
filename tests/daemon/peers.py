"""A server and a client of it, both real, over a socket: sessions inside calls."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pybuild.cache.store import Store
from pybuild.client.session import METHOD, ClientSession
from pybuild.daemon.session.sessions import Session, Sessions
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.server import GrpcServer
from tests.registry.fakes import WallClock


@dataclass(frozen=True, slots=True)
class Server:
    """A server that knows sessions and nothing else."""

    address: str
    sessions: Sessions

    @asynccontextmanager
    async def client(
        self, handlers: Mapping[str, Handler], *, shared_key: str = "", id: str = ""
    ) -> AsyncGenerator[Session]:
        """Open a session that offers *handlers*; give the server's side of it."""
        channel = await Channel.connect(self.address)
        try:
            offered = ClientSession(handlers, shared_key=shared_key, id=id)
            async with offered.open(channel):
                yield await self.sessions.get(offered.id)
        finally:
            await channel.close()


@asynccontextmanager
async def serving() -> AsyncGenerator[Server]:
    sessions = Sessions("me")
    grpc = GrpcServer({METHOD: sessions.handle})
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/sock"
        listener = await loop.create_unix_server(grpc.protocol, path)
        try:
            yield Server(f"unix://{path}", sessions)
        finally:
            listener.close()
            await sessions.close()
            await grpc.close(1.0)


@asynccontextmanager
async def connected(
    handlers: Mapping[str, Handler], *, shared_key: str = ""
) -> AsyncGenerator[Session]:
    async with serving() as server, server.client(handlers, shared_key=shared_key) as session:
        yield session


def open_store(root: object) -> Store:
    return Store.open(str(root), WallClock())
