"""Clients who open connections and do nothing with them keep nobody else out, and take no memory."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from pybuild.model.trust import trusting
from pybuild.net.doorway import Doorway, machine_of
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.limits import GrpcLimits
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.sockets import speak_h2
from pybuild.net.grpc.status import RpcError
from pybuild.net.http2.frames import PREFACE
from tests.daemon.serving import ECHO, WAIT_S
from tests.net.wire import GREETING

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
Use = Callable[["Site"], Awaitable[None]]


async def _hold(call: IncomingCall) -> None:
    await call.send(b"")
    await asyncio.sleep(60)


HANDLERS: dict[str, Handler] = {**ECHO, "/test.Echo/Hold": _hold}


@dataclass
class Site:
    """A server behind a door, and the sockets of those who come and say nothing."""

    door: Doorway
    address: str
    silent: list[socket.socket] = field(default_factory=list[socket.socket])

    async def come(self, count: int = 1, saying: bytes = b"") -> list[socket.socket]:
        """Connect *count* times, and return when the server has seen them."""
        found: list[socket.socket] = []
        for _ in range(count):
            own = socket.socket(socket.AF_UNIX)
            own.connect(self.address.removeprefix("unix://"))
            if saying:
                with suppress(OSError):
                    own.sendall(saying)
            own.setblocking(False)
            found.append(own)
            await asyncio.sleep(0)
        self.silent += found
        return found

    async def serves(self) -> None:
        channel = await Channel.connect(self.address)
        assert await channel.unary("/test.Echo/One", b"x") == b"x"
        await channel.close()

    async def serves_who_is_quick(self) -> None:
        """Come until it was in time: on a busy machine anybody may be slow."""
        while True:
            with suppress(RpcError, OSError):
                return await self.serves()


def on(
    limits: GrpcLimits, use: Use, loop: Callable[[], asyncio.AbstractEventLoop], path: Path
) -> None:
    async def run() -> None:
        server = GrpcServer(HANDLERS, limits=limits)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path / "s"))
        listener.listen(512)
        site = Site(Doorway(server.protocol, server.admission, listener), f"unix://{path}/s")
        try:
            async with asyncio.timeout(WAIT_S):
                await use(site)
        finally:
            site.door.close()
            await server.close(0)
            await asyncio.wait_for(site.door.closed(), 60)
            assert len(site.door) == 0
            for own in site.silent:
                own.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


async def served(address: str, context: ssl.SSLContext) -> Channel:
    """Come until it was in time: on a busy machine anybody may be slow."""
    while True:
        with suppress(RpcError, OSError):
            channel = await Channel.connect(address, ssl=context, server_hostname="localhost")
            assert await channel.unary("/test.Echo/One", b"x") == b"x"
            return channel


async def until_closed(own: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        while await loop.sock_recv(own, 4096):
            pass


def sockets() -> set[str]:
    """Those that this process has open."""
    found: set[str] = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {what for what in found if what.startswith("socket:")}


def is_open(own: socket.socket) -> bool:
    try:
        return own.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@pytest.mark.parametrize("loop", LOOPS)
def test_who_waits_longest_goes_when_too_many_wait(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def use(site: Site) -> None:
        first = await site.come(10)
        more = await site.come(25)
        for own in first + more[:15]:
            await until_closed(own)
        await site.serves()
        assert len(site.door) <= 11

    on(GrpcLimits(waiting=10), use, loop, tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_does_not_begin_is_closed(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def use(site: Site) -> None:
        for said in (b"", PREFACE[:-1], b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"):
            (own,) = await site.come(saying=said)
            await until_closed(own)
        await site.serves_who_is_quick()

    on(GrpcLimits(preface_s=0.05), use, loop, tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_door_that_closes_waits_for_nobody_who_has_not_begun(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def use(site: Site) -> None:
        (own,) = await site.come()
        await site.serves()
        site.door.close()
        await until_closed(own)

    on(GrpcLimits(preface_s=3600.0), use, loop, tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_idle_connection_makes_room_and_a_busy_one_does_not(
    loop: Callable[[], asyncio.AbstractEventLoop],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pybuild.net.doorway.FRESH_S", 0.0)

    async def use(site: Site) -> None:
        busy = [await Channel.connect(site.address) for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            holding: list[asyncio.Task[None]] = []
            held = asyncio.Semaphore(0)

            async def hold(channel: Channel) -> None:
                async with channel.stream("/test.Echo/Hold") as call:
                    await call.receive()
                    held.release()
                    await call.receive()

            for channel in busy:
                holding.append(group.create_task(hold(channel)))
            for _ in busy:
                await held.acquire()
            idle = await site.come(saying=GREETING)
            await asyncio.get_running_loop().sock_recv(idle[0], 1)  # it has begun
            await site.serves()
            await until_closed(idle[0])
            busy.append(await Channel.connect(site.address))
            async with asyncio.TaskGroup() as inner:
                last = inner.create_task(hold(busy[-1]))
                await held.acquire()
                with pytest.raises((RpcError, OSError)):
                    await site.serves()
                last.cancel()
            for task in holding:
                task.cancel()
        for channel in busy:
            await channel.close()

    on(GrpcLimits(connections=4, peer_connections=100), use, loop, tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_one_peer_cannot_have_all(
    loop: Callable[[], asyncio.AbstractEventLoop],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As peers of the test are one user, the door is told where they come from."""
    coming = ["many"]

    def comes(own: socket.socket) -> str:
        return coming[0]

    monkeypatch.setattr("pybuild.net.doorway.machine_of", comes)
    monkeypatch.setattr("pybuild.net.doorway.FRESH_S", 60.0)

    async def use(site: Site) -> None:
        first = await site.come(5, saying=GREETING)
        while len(site.door) < 5:
            await asyncio.sleep(0)
        for own in await site.come(20, saying=GREETING):
            await until_closed(own)
        assert all(is_open(own) for own in first)
        coming[0] = "one"
        await site.serves()

    on(GrpcLimits(peer_connections=5), use, loop, tmp_path)


def test_the_silent_of_one_peer_crowd_out_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = ["one"]

    def comes(own: socket.socket) -> str:
        return coming[0]

    monkeypatch.setattr("pybuild.net.doorway.machine_of", comes)

    async def use(site: Site) -> None:
        slow = await site.come(2)
        while len(site.door) < 2:
            await asyncio.sleep(0)
        coming[0] = "many"
        many = await site.come(50)
        for own in many[:40]:
            await until_closed(own)
        assert all(is_open(own) for own in slow)

    on(GrpcLimits(waiting=10), use, asyncio.new_event_loop, tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_without_a_call_is_closed_after_a_while(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def use(site: Site) -> None:
        held = False
        while not held:  # on a busy machine the while may be over before the call begins
            channel = await Channel.connect(site.address)
            with suppress(RpcError, OSError):
                async with channel.stream("/test.Echo/Hold") as call:
                    await call.receive()
                    held = True
                    (idle,) = await site.come(saying=GREETING)
                    await until_closed(idle)
                    assert not channel.closed.is_set()
            await channel.closed.wait()

    on(GrpcLimits(idle_s=0.05), use, loop, tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_silence_before_tls_costs_no_descriptor_for_long(
    loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    from cryptography import x509

    from tests.daemon.identities import Authority, subject

    authority = Authority(tmp_path, "ca")
    own = authority.sign(subject(("CN", "server")), x509.DNSName("localhost"))

    async def run() -> None:
        inside = speak_h2(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        inside.load_cert_chain(own.certificate, own.key)
        server = GrpcServer(HANDLERS, limits=GrpcLimits(waiting=5, preface_s=0.3))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        port = listener.getsockname()[1]
        door = Doorway(server.protocol, server.admission, listener, inside)
        open_before = sockets()
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        half = [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"]
        for number, one in enumerate(silent):
            one.sendall(half[number % 2] if number % 3 else b"\x16")
            one.setblocking(False)
        channel = await served(f"tcp://127.0.0.1:{port}", trusting(str(authority.file)))
        for one in silent:
            await until_closed(one)
            one.close()
        while len(door) > 1:
            await asyncio.sleep(0.01)
        await channel.close()
        while len(door):
            await asyncio.sleep(0.01)
        assert sockets() <= open_before
        door.close()
        await server.close(0)
        await door.closed()

    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            await run()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


def test_machines_are_told_apart_and_networks_of_one_subscriber_are_not() -> None:
    ours, theirs = socket.socketpair()
    assert machine_of(ours) == f"uid:{os.geteuid()}"
    for own in (ours, theirs):
        own.close()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        accepted, _ = listener.accept()
        assert machine_of(accepted) == "127.0.0.1"
        accepted.close()
