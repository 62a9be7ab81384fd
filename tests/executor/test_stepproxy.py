"""The proxy of a step, in front of a real server [POL-1, ATT-2]."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pybuild.executor.proxies.record import ProxyRecord, Uncaptured
from pybuild.executor.proxies.server import StepProxy
from pybuild.executor.proxies.upstream import Upstream
from pybuild.model.errors import UserError
from pybuild.net.certificates import Authority

AUTHORITY = Authority("proxy", 1)
THEIRS = Authority("servers", 1)


def _context(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    fd = os.memfd_create("certificate")
    try:
        os.write(fd, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


class Site:
    """A server: it answers by path, and notes the heads and bodies that it got."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.base = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                lower = head.lower()
                if "content-length: " in lower:
                    size = int(lower.split("content-length: ")[1].split("\r\n")[0])
                    self.bodies.append(await reader.readexactly(size))
                elif "transfer-encoding: chunked" in lower:
                    self.bodies.append(await reader.readuntil(b"0\r\n\r\n"))
                writer.write(self.answer(head.split(" ")[1], head.split(" ")[0]))
                await writer.drain()
                if "/cut" in head or "/endless" in head:
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def answer(self, path: str, method: str) -> bytes:
        match path.partition("?")[0]:
            case "/file":
                body = b"" if method == "HEAD" else b"content"
                return b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-One: 1\r\n\r\n" + body
            case "/chunked":
                return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ncont\r\n3\r\nent\r\n0\r\n\r\n"
            case "/endless":
                return b"HTTP/1.1 200 OK\r\n\r\ncontent"
            case "/moved":
                return b"HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 0\r\n\r\n"
            case "/cut":
                return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncont"
            case "/part":
                return b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nc"
            case _:
                return b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"


Ask = Callable[[bytes], Awaitable[bytes]]


async def _judge(url: str) -> str:
    if "denied" in url:
        raise UserError(f'source "{url}" denied by policy')
    return url.replace("/old", "/file")


class Rig:
    """A site in the clear and with TLS, a proxy before it, and the record of that."""

    def __init__(self) -> None:
        self.record = ProxyRecord()
        self.site = Site()
        self.plain = self.secure = ""
        self.port = 0

    async def ask(self, data: bytes) -> bytes:
        """Return all that the proxy answers until it ends the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def get(self, url: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
        lines = [f"{method} {url} HTTP/1.1", "Host: ignored.example", "Connection: close", *headers]
        return await self.ask("\r\n".join([*lines, "", ""]).encode() + body)


@asynccontextmanager
async def rig(where: Path) -> AsyncGenerator[Rig]:
    made = Rig()
    ca = where / "ca.pem"
    ca.write_text(THEIRS.certificate)
    pem = THEIRS.of_host("127.0.0.1")
    plain = await asyncio.start_server(made.site.serve, "127.0.0.1", 0)
    secure = await asyncio.start_server(made.site.serve, "127.0.0.1", 0, ssl=_context(pem))
    made.plain, made.secure = (
        f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for scheme, server in (("http", plain), ("https", secure))
    )
    upstream = Upstream(None, (str(ca),))
    proxy = StepProxy(upstream, lambda host: _context(AUTHORITY.of_host(host)), _judge, made.record)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made.port = listener.getsockname()[1]
        serving = asyncio.create_task(proxy.serve(listener))
        try:
            yield made
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await proxy.close()
            await upstream.close()
            plain.close()
            secure.close()


def on(where: Path, use: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        async with rig(where) as made:
            await use(made)

    asyncio.run(run())


SHA256 = hashlib.sha256(b"content").hexdigest()


def test_a_file_is_handed_on_and_is_a_material(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        for path in ("/file", "/chunked", "/endless"):
            answer = await r.get(f"{r.plain}{path}", "Accept-Encoding: gzip", "X-Two: 2")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"cont" in answer
            assert r.record.materials()[f"{r.plain}{path}"] == SHA256
        head = r.site.heads[0]
        assert f"Host: {r.plain.removeprefix('http://')}\r\n" in head, (
            "that of the URL, not the step's"
        )
        assert "X-Two: 2\r\n" in head
        assert "gzip" not in head
        assert r.record.lines()[0] == f"- GET {r.plain}/file -> 200"

    on(tmp_path, use)


def test_requests_follow_each_other_on_a_connection(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        one = f"GET {r.plain}/chunked HTTP/1.1\r\n\r\n".encode()
        head = f"HEAD {r.plain}/file HTTP/1.1\r\n\r\n".encode()
        last = f"GET {r.plain}/moved HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
        answer = await r.ask(one + head + last)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert b"HTTP/1.1 302 Found\r\nLocation: /file\r\n" in answer

    on(tmp_path, use)


def test_what_is_no_material_is_recorded_with_its_reason(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        sent = "Content-Length: 3"
        await r.get(f"{r.plain}/file", sent, method="POST", body=b"abc")
        chunked = "Transfer-Encoding: chunked"
        await r.get(
            f"{r.plain}/file", chunked, method="PUT", body=b"3;x=y\r\nabc\r\n0\r\nT: t\r\n\r\n"
        )
        await r.get(f"{r.plain}/part")
        await r.get(f"{r.plain}/missing")
        await r.get("http://127.0.0.1:1/")
        await r.get(f"{r.plain}/cut")
        assert r.site.bodies == [b"abc", b"3\r\nabc\r\n0\r\n\r\n"]
        reasons = [one.reason for one in r.record.uncaptured]
        assert reasons == [
            "method_not_materializable",
            "method_not_materializable",
            "partial_response",
            "unsuccessful_response",
            "upstream_error",
            "body_read_failed",
        ]
        assert r.record.uncaptured[3] == Uncaptured(
            "GET", f"{r.plain}/missing", "unsuccessful_response"
        )
        assert r.record.materials() == {}

    on(tmp_path, use)


def test_a_policy_refuses_and_replaces(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        for path in ("/denied", "/%64enied", "/x/../denied"):
            assert b"HTTP/1.1 403 Forbidden" in await r.get(f"{r.plain}{path}")
        assert b"content" in await r.get(f"{r.plain}/old")
        assert b"HTTP/1.1 403" in await r.get(f"{r.plain}/old", method="POST")
        assert [head.split(" ")[1] for head in r.site.heads] == ["/file"]
        assert list(r.record.materials()) == [f"{r.plain}/file"]
        assert r.record.lines()[0].startswith(f"- GET {r.plain}/denied -> 403 (source ")

    on(tmp_path, use)


async def _inside_tls(r: Rig, data: bytes, authority: Authority) -> bytes:
    """Return the answer to what is said in a tunnel to the site with TLS."""
    place = r.secure.removeprefix("https://")
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
    try:
        writer.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        trusting = ssl.create_default_context(cadata=authority.certificate)
        inner = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(inner)
        transport = await loop.start_tls(
            writer.transport, protocol, trusting, server_hostname="127.0.0.1"
        )
        assert transport is not None
        protocol.connection_made(transport)
        transport.write(data)
        try:
            return await asyncio.wait_for(inner.read(), 20)
        finally:
            transport.close()
    finally:
        writer.close()


def test_requests_inside_tls_are_seen(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        first = b"GET /file HTTP/1.1\r\nHost: other.example\r\n\r\n"
        last = b"GET /denied HTTP/1.1\r\nHost: other.example\r\n\r\n"
        answer = await _inside_tls(r, first + last, AUTHORITY)
        assert b"content" in answer
        assert b"403 Forbidden" in answer
        assert r.record.materials() == {f"{r.secure}/file": SHA256}
        assert "other.example" not in r.site.heads[0], "a step cannot ask one host for another's"

    on(tmp_path, use)


def test_a_client_that_does_not_trust_the_proxy_is_in_the_log(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        try:
            await _inside_tls(r, b"", THEIRS)
        except (ssl.SSLError, OSError):
            pass
        while not r.record.lines():
            await asyncio.sleep(0)
        assert r.record.lines() == [f"- CONNECT {r.secure}/ (no TLS was agreed on)"]

    on(tmp_path, use)


def test_a_server_whose_certificate_is_not_trusted_is_not_asked(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        port = r.secure.rpartition(":")[2]
        answer = await r.get(f"https://localhost:{port}/file")
        assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert r.site.heads == []

    on(tmp_path, use)


def test_what_is_no_request_is_refused(tmp_path: Path) -> None:
    async def use(r: Rig) -> None:
        for line in (
            "GET ftp://h/ HTTP/1.1",
            "GET /only HTTP/1.1",
            "GET http:// HTTP/1.1",
            "SSH-2.0",
        ):
            answer = await r.ask(f"{line}\r\nConnection: close\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")

    on(tmp_path, use)
