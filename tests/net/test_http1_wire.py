"""Requests on real sockets: connections that are kept, proxies, bodies, early and late answers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pybuild.net.http1.connection import Connection, Cut
from pybuild.net.http1.faults import ConnectionLost, HttpFault
from pybuild.net.http1.proxies import Proxy
from pybuild.net.http1.tlsfiles import Tls
from tests.needs import need
from tests.net.http1sites import EMPTY, Run, get, listening, wire
from tests.registry.servers import Authority
from tests.services import ServerTls, start_registry


def test_a_connection_whose_answer_was_read_is_used_again(run: Run) -> None:
    heads: list[list[bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append([])
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads[-1].append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            for _ in range(2):
                response = await get(w, f"http://{host}/v2/?a=b%20c")
                assert await response.read(10) == b"abc"
                response.close()
            (await get(w, f"http://{host}/unread")).close()
            (await get(w, f"http://{host}/new")).close()
        assert [len(one) for one in heads] == [3, 1]
        assert heads[0][0].startswith(f"GET /v2/?a=b%20c HTTP/1.1\r\nHost: {host}\r\n".encode())

    run(body())


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(run: Run) -> None:
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EMPTY)
        if count == 1:
            await reader.readuntil(b"\r\n\r\n")  # and hangs up

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            for _ in range(2):
                response = await get(w, f"http://{host}/")
                assert await response.read(10) == b""
                response.close()
        assert count == 2

    run(body())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_kept_connection_that_spoke_unasked_is_replaced(
    run: Run, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that came between two requests would be read as the answer to the second."""
    count = 0
    kept, heard = asyncio.Event(), asyncio.Event()
    receive = Connection.data_received

    def received(connection: Connection, data: bytes) -> None:
        receive(connection, data)
        if kept.is_set():
            heard.set()

    monkeypatch.setattr(Connection, "data_received", received)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        writer.write(b"" if method == "HEAD" else b"true")
        if count == 1:
            await kept.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse")
        await reader.read()

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            response = await get(w, f"http://{host}/", method)
            await response.read(10)
            response.close()
            kept.set()
            await heard.wait()
            response = await get(w, f"http://{host}/")
            response.close()
            assert (count, response.length) == (2, 4)

    run(body())


@pytest.mark.parametrize("waits", [False, True])
def test_an_early_answer_ends_the_sending_of_a_body(run: Run, waits: bool) -> None:
    """Also of one that has nothing to send yet."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
                await asyncio.Event().wait() if waits else await asyncio.sleep(0)
        finally:
            closed.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await reader.read()

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            response = await get(w, f"http://{host}/", "PUT", body=endless(), length=1 << 40)
            assert (response.status, response.body) == (413, b"big")
            response.close()
            await closed.wait()

    run(body())


@pytest.mark.parametrize("pieces", [[b"a" * 70_000, b"", b"b"], []])
def test_a_body_whose_length_is_not_known_goes_in_chunks(run: Run, pieces: list[bytes]) -> None:
    found = bytearray()

    async def some() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head and b"Content-Length" not in head
        while size := int(await reader.readline(), 16):
            found.extend(await reader.readexactly(size))
            assert await reader.readexactly(2) == b"\r\n"
        await reader.readuntil(b"\r\n")
        writer.write(EMPTY)

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            (await get(w, f"http://{host}/", "PATCH", body=some(), length=None)).close()
        assert bytes(found) == b"".join(pieces)

    run(body())


def test_a_body_that_fails_fails_the_request(run: Run) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise HttpFault("the file is gone")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            with pytest.raises(HttpFault, match="the file is gone"):
                await get(w, f"http://{host}/", "PUT", body=failing(), length=100)

    run(body())


def test_a_large_body_waits_for_its_reader(run: Run) -> None:
    """Bytes that are not read yet stay with the server, not in our memory."""
    size, sent = 64 << 20, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        while sent < size:
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1 << 20

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            response = await get(w, f"http://{host}/")
            await asyncio.sleep(0.2)
            assert sent < 32 << 20
            count = 0
            async for data in response.chunks():
                count += len(data)
            assert count == size
            response.close()

    run(body())


def test_a_server_that_says_nothing_is_given_up(run: Run) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await reader.read()

    async def body() -> None:
        async with listening(serve) as host, wire(idle_s=0.1) as w:
            response = None
            while response is None:  # on a busy machine the beginning may be too slow as well
                with suppress(ConnectionLost):
                    response = await get(w, f"http://{host}/")
            with pytest.raises(ConnectionLost, match=r"no answer for 0\.1 s"):
                await response.read(10)
            response.close()

    run(body())


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/\x7f"])
def test_urls_that_would_be_something_else_on_the_wire_are_refused(run: Run, path: str) -> None:
    async def body() -> None:
        async with wire() as w:
            with pytest.raises(HttpFault, match="not a URL"):
                await get(w, f"http://127.0.0.1:1{path}")

    run(body())


def test_a_handshake_that_is_abandoned_leaves_nothing(run: Run) -> None:
    """As when another request of the same push has failed."""
    greeted, ended = asyncio.Event(), asyncio.Event()
    gc.freeze()  # Only what comes from here on is looked through.

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        greeted.set()
        try:
            await reader.read()
        finally:
            ended.set()

    async def body() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with listening(serve) as host, wire() as w:
            asking = asyncio.create_task(get(w, f"https://{host}/"))
            await greeted.wait()
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            await ended.wait()
            del asking
            gc.collect()
            assert told == []

    run(body())


# --- proxies --------------------------------------------------------------------------------------


def test_plain_requests_name_the_whole_url_to_a_proxy(run: Run) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(EMPTY)

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            (
                await get(
                    w,
                    "http://example.com/v2/?x=y",
                    proxy=Proxy(f"http://me:pw@{host}", "http_proxy"),
                )
            ).close()
        assert heads[0].startswith(b"GET http://example.com/v2/?x=y HTTP/1.1\r\nHost: example.com")
        assert b"\r\nProxy-Authorization: Basic bWU6cHc=\r\n" in heads[0]

    run(body())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_cannot_be_is_refused_whatever_the_request(run: Run, scheme: str) -> None:
    async def body() -> None:
        async with wire() as w:
            proxy = Proxy("http://[", f"{scheme}_proxy")
            with pytest.raises(HttpFault, match=f"of {scheme}_proxy: not a URL of http:// or"):
                await get(w, f"{scheme}://example.com/v2/", proxy=proxy)

    run(body())


@pytest.mark.slow
@pytest.mark.registry
def test_tls_goes_through_a_tunnel(run: Run, tmp_path: Path) -> None:
    need("docker-registry")
    authority = Authority.make(tmp_path)
    tls = Tls(ca=(str(authority.ca),))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"CONNECT ")
        host, _, port = head.split()[1].decode().rpartition(":")
        further = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pipe(reader, further[1]), pipe(further[0], writer))
        finally:
            further[1].close()

    async def body() -> None:
        async with listening(serve) as proxy, wire() as w:
            for _ in range(2):
                url = f"https://{secure.host}/v2/"
                response = await get(w, url, tls=tls, proxy=Proxy(f"http://{proxy}", "https_proxy"))
                assert (response.status, await response.read(100)) == (200, b"{}")
                response.close()

    with start_registry(tmp_path, tls=ServerTls(authority.cert, authority.key)) as secure:
        run(body())


def test_a_proxy_that_refuses_is_named_by_its_status(run: Run) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno")

    async def body() -> None:
        async with listening(serve) as host, wire() as w:
            proxy = Proxy(f"http://{host}", "https_proxy")
            with pytest.raises(HttpFault) as caught:
                await get(w, "https://example.com/v2/", proxy=proxy)
            assert caught.value.message == (
                f"proxy {host} of https_proxy: answers 407 (example.com:443)"
            )
            assert caught.value.hints == (
                "write user and password in https_proxy: http://USER:PASSWORD@HOST:PORT",
            )
        assert heads[0].startswith(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n")

    run(body())


@pytest.mark.parametrize("is_told", [True, False])
def test_a_connection_that_is_gone_before_it_is_asked_is_cut(run: Run, is_told: bool) -> None:
    """uvloop refuses to write to such a transport, as a fault of the program."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async def body() -> None:
        async with listening(hang_up) as host:
            loop = asyncio.get_running_loop()
            name, _, port = host.partition(":")
            _, connection = await loop.create_connection(Connection, name, int(port))
            if is_told:
                while connection.is_open:
                    await asyncio.sleep(0)
            else:
                connection.transport.abort()
            with pytest.raises((Cut, ConnectionError)):
                await connection.ask("HEAD", b"HEAD / HTTP/1.1\r\n\r\n", None)

    run(body())
