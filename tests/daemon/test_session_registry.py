"""Sessions come, are waited for, are watched, and end; whoever waits for one hears of it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from pybuild.client.session import METHOD, ClientSession
from pybuild.daemon.session.sessions import SessionInfo, Sessions
from pybuild.model.errors import UserError
from pybuild.net.grpc.calls import IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.peers import connected, serving

ECHO = "/test.Echo/Say"


async def _echo(data: bytes, call: IncomingCall) -> bytes:
    del call
    return data


async def _hang(data: bytes, call: IncomingCall) -> bytes:
    del data, call
    await asyncio.sleep(60)
    return b""


def test_what_a_session_offers_can_be_called_and_nothing_else() -> None:
    async def run() -> None:
        async with connected({ECHO: unary(_echo)}, shared_key="dir") as session:
            assert session.shared_key == "dir"
            assert session.offers("/TEST.echo/say") and not session.offers("/test.Echo/Other")
            assert await session.unary(ECHO, b"hello") == b"hello"
            with pytest.raises(RpcError) as caught:
                await session.unary("/test.Echo/Other", b"")
            assert caught.value.code is Code.UNIMPLEMENTED

    asyncio.run(run())


def test_a_session_is_found_by_what_follows_a_colon() -> None:
    async def run() -> None:
        async with serving() as server, server.client({}, id="abc") as session:
            assert await server.sessions.get("local:abc") is session
            assert server.sessions.find("x:abc") is session
            assert list(server.sessions) == [session]

    asyncio.run(run())


def test_a_session_on_its_way_is_waited_for() -> None:
    async def run() -> None:
        async with serving() as server:
            waiting = asyncio.create_task(server.sessions.get("late"))
            await asyncio.sleep(0.02)
            async with server.client({}, id="late") as session:
                assert await waiting is session

    asyncio.run(run())


def test_a_session_that_does_not_come_is_an_error_in_the_words_of_the_reference() -> None:
    async def run() -> None:
        with pytest.raises(UserError) as caught:
            await Sessions("me").get("a:never", timeout_s=0.01)
        assert caught.value.message == "no active session for never: context deadline exceeded"

    asyncio.run(run())


def test_two_sessions_of_one_id_cannot_be() -> None:
    async def run() -> None:
        async with serving() as server, server.client({}, id="one"):
            with pytest.raises(RpcError, match="session one already exists"):
                async with server.client({}, id="one"):
                    pass

    asyncio.run(run())


def test_sessions_of_one_owner_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pybuild.daemon.session.sessions.MOST_SESSIONS", 2)

    async def run() -> None:
        async with serving() as server, server.client({}, id="a"):
            async with server.client({}, id="b"):
                with pytest.raises(RpcError, match="2 sessions are open already") as caught:
                    async with server.client({}, id="c"):
                        pass
                assert caught.value.code is Code.RESOURCE_EXHAUSTED
            async with server.client({}, id="c"):
                pass

    asyncio.run(run())


def test_a_session_without_an_id_is_refused() -> None:
    async def run() -> None:
        async with serving() as server:
            channel = await Channel.connect(server.address)
            async with channel.stream(METHOD) as call:
                with pytest.raises(RpcError) as caught:
                    await call.receive()
                assert caught.value.code is Code.INVALID_ARGUMENT
            await channel.close()

    asyncio.run(run())


def test_what_is_called_fails_when_the_client_leaves() -> None:
    async def run() -> None:
        async with serving() as server:
            async with server.client({ECHO: unary(_hang)}) as session:
                waiting = asyncio.create_task(session.unary(ECHO, b""))
                await asyncio.sleep(0.02)
            with pytest.raises(RpcError):
                await waiting
            await asyncio.wait_for(session.closed.wait(), 60)
            with pytest.raises(RpcError) as caught:
                await session.unary(ECHO, b"")
            assert caught.value.code is Code.UNAVAILABLE
            assert server.sessions.find(session.id) is None

    asyncio.run(run())


def test_what_is_called_fails_when_the_connection_breaks() -> None:
    async def run() -> None:
        async with serving() as server:
            channel = await Channel.connect(server.address)
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(
                    ClientSession({ECHO: unary(_hang)}, id="x").open(channel)
                )
                session = await server.sessions.get("x")
                waiting = asyncio.create_task(session.unary(ECHO, b""))
                await asyncio.sleep(0.02)
                await channel.close()
                with pytest.raises(RpcError):
                    await asyncio.wait_for(waiting, 60)
                await asyncio.wait_for(session.closed.wait(), 60)

    asyncio.run(run())


@pytest.mark.slow
def test_a_session_that_answers_no_health_check_ends() -> None:
    class Watched(ClientSession):
        every_ms = 20

        def metadata(self) -> Metadata:
            metadata = super().metadata()
            metadata.add("x-buildkit-session-health-custom-timeout", str(self.every_ms))
            return metadata

    class Patiently(Watched):
        every_ms = 200

    health = "/grpc.health.v1.Health/Check"
    answers = 0

    async def answer(data: bytes, call: IncomingCall) -> bytes:
        nonlocal answers
        answers += 1
        return b""

    async def run() -> None:
        async with serving() as server:
            channel = await Channel.connect(server.address)
            async with Watched({health: unary(_hang)}, id="mute").open(channel):
                session = await server.sessions.get("mute")
                await asyncio.wait_for(session.closed.wait(), 60)
            async with Patiently({health: unary(answer)}, id="fine").open(channel):
                session = await server.sessions.get("fine")
                async with asyncio.timeout(60):
                    while answers < 5:
                        await asyncio.sleep(0.01)
                assert not session.closed.is_set()
            await channel.close()

    asyncio.run(run())


class _Pipe:
    """A byte stream that is no call, such as an upgraded connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(1 << 16)

    async def write(self, data: bytes, /) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


def test_any_stream_of_bytes_can_carry_a_session() -> None:
    async def run() -> None:
        import socket

        ours, theirs = socket.socketpair()
        here = _Pipe(*await asyncio.open_connection(sock=ours))
        there = _Pipe(*await asyncio.open_connection(sock=theirs))
        client = ClientSession({ECHO: unary(_echo)}, id="pipe")
        server = GrpcServer({ECHO: unary(_echo)})
        sessions = Sessions("me")
        tasks = [
            asyncio.create_task(server.serve_stream(there)),
            asyncio.create_task(sessions.serve(here, SessionInfo.read(client.metadata(), "me"))),
        ]
        session = await sessions.get("pipe")
        assert session.info.owner == "me"
        assert await session.unary(ECHO, b"x" * 100_000) == b"x" * 100_000
        there.close()
        await asyncio.wait_for(session.closed.wait(), 60)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_a_server_that_closes_takes_no_more_sessions() -> None:
    async def run() -> None:
        async with serving() as server:
            async with server.client({}) as session:
                await server.sessions.close()
                await asyncio.wait_for(session.closed.wait(), 60)
            with pytest.raises(RpcError, match="shutting down"):
                async with server.client({}):
                    pass

    asyncio.run(run())


@pytest.mark.parametrize("count", [1001])
def test_what_a_client_offers_is_bounded(count: int) -> None:
    metadata = ClientSession({f"/a.B/C{number}": _never for number in range(count)}).metadata()
    with pytest.raises(RpcError, match="methods are offered"):
        SessionInfo.read(metadata, "me")


async def _never(call: IncomingCall) -> None:
    raise AssertionError(call)
