"""Doors that are made when somebody knocks."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from pybuild.net.doorway import Admission, Doorway
from pybuild.net.latedoor import LateDoor

_ADMISSION = Admission(connections=10, machine=10, waiting=10, begin_s=30, idle_s=30)


class Greeting(asyncio.Protocol):
    """A visit that says hello, and goes when the other side does."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    @property
    def protocol(self) -> asyncio.BaseProtocol:
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"hello\n")
        self.begun.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()

    def idle_since(self) -> float | None:
        return None

    def leave(self) -> None: ...

    def abort(self) -> None:
        self.gone.set()
        if self._transport is not None:
            self._transport.abort()


def _listener(path: Path) -> socket.socket:
    own = socket.socket(socket.AF_UNIX)
    own.bind(str(path))
    own.listen(8)
    return own


def test_a_door_is_made_once_and_those_who_came_before_are_let_in(tmp_path: Path) -> None:
    async def run() -> None:
        made: list[str] = []
        may_open = asyncio.Event()

        async def make(listener: socket.socket) -> Doorway:
            made.append("door")
            await may_open.wait()
            return Doorway(Greeting, _ADMISSION, listener)

        late = LateDoor(_listener(tmp_path / "s"), make)
        await asyncio.sleep(0)
        assert made == []
        first = await asyncio.open_unix_connection(tmp_path / "s")
        second = await asyncio.open_unix_connection(tmp_path / "s")
        may_open.set()
        assert await first[0].readline() == await second[0].readline() == b"hello\n"
        assert made == ["door"]
        for _, writer in (first, second):
            writer.close()
        late.close()
        await late.closed()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_door_that_nobody_came_to_is_closed_unmade(tmp_path: Path) -> None:
    async def run() -> None:
        async def make(listener: socket.socket) -> Doorway:
            raise AssertionError

        own = _listener(tmp_path / "s")
        late = LateDoor(own, make)
        late.close()
        await late.closed()
        assert own.fileno() < 0

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_door_that_opens_while_it_is_closed_lets_nobody_in(tmp_path: Path) -> None:
    async def run() -> None:
        may_open, begun = asyncio.Event(), asyncio.Event()

        async def make(listener: socket.socket) -> Doorway:
            begun.set()
            await may_open.wait()
            return Doorway(Greeting, _ADMISSION, listener)

        late = LateDoor(_listener(tmp_path / "s"), make)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await begun.wait()
        late.close()
        may_open.set()
        await late.closed()
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()

    asyncio.run(asyncio.wait_for(run(), 30))
