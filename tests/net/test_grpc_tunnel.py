"""Connections inside byte streams, above all inside calls of another connection; and TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.channel import Channel, ClientCall
from pybuild.net.grpc.peer import Peer
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.sockets import speak_h2
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.serving import ECHO, WAIT_S, channel


class Pipe:
    """One end of two queues."""

    def __init__(self, out: asyncio.Queue[bytes], come: asyncio.Queue[bytes]) -> None:
        self._out = out
        self._come = come
        self.fails = False

    async def read(self) -> bytes:
        return await self._come.get()

    async def write(self, data: bytes, /) -> None:
        if self.fails:
            raise OSError("the pipe is broken")
        await self._out.put(data)

    def close(self) -> None:
        self._out.put_nowait(b"")


def pipe() -> tuple[Pipe, Pipe]:
    one: asyncio.Queue[bytes] = asyncio.Queue()
    two: asyncio.Queue[bytes] = asyncio.Queue()
    return Pipe(one, two), Pipe(two, one)


class Messages:
    """The messages of a call as a stream of bytes, as sessions use them."""

    def __init__(self, call: IncomingCall | ClientCall) -> None:
        self._call = call

    async def read(self) -> bytes:
        return await self._call.receive() or b""

    async def write(self, data: bytes, /) -> None:
        await self._call.send(data)

    def close(self) -> None:
        pass


def test_calls_through_a_pipe() -> None:
    async def run() -> None:
        ours, theirs = pipe()
        server = GrpcServer(ECHO)
        serving = asyncio.create_task(server.serve_stream(theirs))
        client = await Channel.over(ours)
        async with asyncio.timeout(WAIT_S):
            body = os.urandom(5 << 20)
            assert await client.unary("/test.Echo/One", body) == body
            await client.close()
            await serving
            await client.closed.wait()

    asyncio.run(run())


def test_calls_back_through_a_call() -> None:
    """The session: the server of the outer connection is the client of the inner one."""
    told: list[bytes] = []

    async def session(call: IncomingCall) -> None:
        await call.send_headers()
        back = await Channel.over(Messages(call))
        for size in (3, 100_000, 1 << 20):
            told.append(await back.unary("/test.Echo/One", bytes(size)))
        with pytest.raises(RpcError) as caught:
            await back.unary("/test.Echo/Missing", b"")
        assert caught.value.code == Code.UNIMPLEMENTED
        await back.close()

    async def run() -> None:
        async with channel({"/t.T/Session": session}) as client:
            async with client.stream("/t.T/Session") as call:
                await call.headers()
                inner = GrpcServer(ECHO)
                await inner.serve_stream(Messages(call))
            assert [len(each) for each in told] == [3, 100_000, 1 << 20]

    asyncio.run(run())


def test_lost_tunnel_ends_its_calls_and_tells_its_owner() -> None:
    async def run() -> None:
        ours, theirs = pipe()
        server = GrpcServer(ECHO)
        serving = asyncio.create_task(server.serve_stream(theirs, Peer("tunnel", "x")))
        client = await Channel.over(ours)
        async with asyncio.timeout(WAIT_S), client.stream("/test.Echo/All") as call:
            theirs.close()
            with pytest.raises(RpcError) as caught:
                await call.receive()
            assert caught.value.code == Code.UNAVAILABLE
            await client.closed.wait()
            with pytest.raises(RpcError) as caught:
                await client.unary("/test.Echo/One", b"")
            assert caught.value.code == Code.UNAVAILABLE
            await serving

    asyncio.run(run())


def test_broken_tunnel_names_its_cause() -> None:
    async def run() -> None:
        ours, _ = pipe()
        client = await Channel.over(ours)
        ours.fails = True
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(RpcError, match="the pipe is broken") as caught:
                await client.unary("/test.Echo/One", b"")
            assert caught.value.code == Code.UNAVAILABLE

    asyncio.run(run())


@pytest.mark.slow
def test_calls_over_tls_tell_who_calls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
        + ["-subj", "/CN=builder", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    peers: list[Peer] = []

    async def who(call: IncomingCall) -> None:
        peers.append(call.peer)
        await call.send(b"x" * 100_000)

    async def run() -> None:
        inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
        inside.load_cert_chain(certificate, key)
        inside.verify_mode = ssl.CERT_REQUIRED
        outside = ssl.create_default_context(cafile=str(certificate))
        outside.load_cert_chain(certificate, key)
        server = GrpcServer({"/t.T/Who": who})
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(server.protocol, "127.0.0.1", 0, ssl=speak_h2(inside))
        port = listener.sockets[0].getsockname()[1]
        async with asyncio.timeout(WAIT_S):
            client = await Channel.connect(
                f"tcp://127.0.0.1:{port}", ssl=outside, server_hostname="localhost"
            )
            assert len(await client.unary("/t.T/Who", b"")) == 100_000
            await client.close()
            await client.closed.wait()
            listener.close()
            await server.close(0)

    asyncio.run(run())
    assert peers[0].owner.startswith("certificate:")
    assert peers[0].kind == "tcp"
