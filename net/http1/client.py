"""HTTP: one try of one request, with its failures sorted, on connections that are kept.

What reads answers is imported with the first request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from pybuild.model.package import USER_AGENT
from pybuild.net.http1.dialing import basic, bracketed, is_plain, proxy_lines
from pybuild.net.http1.faults import (
    ConnectionLost,
    HttpFault,
    HungUp,
    fault_of,
    proxy_refusal,
    proxy_url,
)
from pybuild.net.http1.pool import Pool, Route
from pybuild.net.http1.proxies import Proxy
from pybuild.net.http1.tlsfiles import Tls
from pybuild.net.tls import make_context

if TYPE_CHECKING:
    from multidict import CIMultiDict
    from yarl import URL

    from pybuild.net.http1.answer import Answer
    from pybuild.net.http1.connection import Connection

Origin = tuple[str, str, int]
"""Scheme, host and port: what a secret is meant for."""

_SYSTEM = Tls()
_ERROR_BODY_BYTES = 64 << 10
_PLAIN_S = 1.0  # who does not say so at once is asked as others are


class Response:
    """An answer; its body is read at most once.

    Attributes:
        url: the URL that it came from.
        body: of an error status, its first 64 KiB; else empty.
        left: the origin that was asked, where another one had a say in who answers. Where this
            answer leads is a stranger's choice, and not to be asked there with our name.
    """

    def __init__(
        self,
        url: URL,
        answer: Answer,
        connection: Connection,
        give_back: Callable[[Connection], None],
        idle_s: float,
        idle_bytes: int,
    ) -> None:
        self.url = url
        self.body = b""
        self.left: Origin | None = None
        self._answer = answer
        self._connection: Connection | None = connection
        self._give_back = give_back
        self._idle_s = idle_s
        self._idle_bytes = idle_bytes

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> CIMultiDict[str]:
        return self._answer.headers

    @property
    def media_type(self) -> str:
        """``Content-Type`` without parameters, lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def length(self) -> int | None:
        """``Content-Length``, when it is a number."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            ConnectionLost: it was cut, or came too slowly.
        """
        loop = asyncio.get_running_loop()
        connection = self._connection
        if connection is None:
            return
        received, mark, deadline = 0, 0, loop.time() + self._idle_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    data = await connection.read()
            except Exception as error:
                raise fault_of(error, self._idle_s) from error
            if not data:
                return
            received += len(data)
            # A drip of bytes is silence too: each idle time must bring some more of them.
            if received - mark >= self._idle_bytes:
                mark, deadline = received, loop.time() + self._idle_s
            paused = loop.time()
            yield data
            deadline += loop.time() - paused  # our own slowness is not the server's

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            HttpFault: it is longer than *limit* bytes.
        """
        parts = bytearray()
        async for data in self.chunks():
            parts += data
            if len(parts) > limit:
                raise HttpFault(f"answer is longer than {limit} bytes")
        return bytes(parts)

    async def keep_body(self) -> None:
        """Read what an error says into `body`; a cut there does not hide the status."""
        self._idle_s, idle_s = min(self._idle_s, 10.0), self._idle_s
        parts = bytearray()
        try:
            async for data in self.chunks():
                parts += data
                if len(parts) > _ERROR_BODY_BYTES:
                    break
        except HttpFault:
            pass
        self._idle_s = idle_s
        self.body = bytes(parts[:_ERROR_BODY_BYTES])

    def close(self) -> None:
        """Give the connection back, or drop it when there is a rest in it; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._give_back(connection)


class Wire:
    """All connections and their TLS contexts."""

    def __init__(self, connect_s: float, idle_s: float, idle_bytes: int) -> None:
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._idle_bytes = idle_bytes
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._answered: set[str] = set()
        self._pool = Pool(connect_s, self._context)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._pool.close()

    async def is_plain(self, url: URL) -> bool:
        """Return whether a server that may or may not speak TLS surely does not: its answer comes at once."""
        try:
            async with asyncio.timeout(_PLAIN_S):
                return await is_plain(url)
        except TimeoutError:
            return False

    async def send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        tls: Tls = _SYSTEM,
        proxy: Proxy | None = None,
        socket: str = "",
        body: AsyncIterator[bytes] | None = None,
        length: int | None = 0,
        idle_s: float | None = None,
    ) -> Response:
        """Make one try; follows nothing, retries nothing. A *length* of None is not known yet.

        Args:
            socket: the path of a socket of this machine, in place of the host of *url*.
            idle_s: give up sooner or later than usual, connecting included.

        Raises:
            ConnectionLost: worth another try.
            HttpFault: not.
        """
        loop = asyncio.get_running_loop()
        alarm = asyncio.timeout(self._connect_s + self._idle_s if idle_s is None else idle_s)
        idle_s = self._idle_s if idle_s is None else idle_s

        def touch() -> None:
            if alarm.when() is not None and not answered and not alarm.expired():
                alarm.reschedule(loop.time() + idle_s)

        answered = False
        sent = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT, **headers}
        if url.user is not None:
            sent.setdefault("Authorization", basic(url))
            url = url.with_user(None)  # and no message has it
        sent |= _framing(method, body is not None, length)
        watched = None if body is None or length == 0 else _watched(body, touch)
        if watched is not None and length is None:
            watched = _chunked(watched)
        head = _head(method, url, sent, proxy)
        secure = url.scheme == "https"
        host = (url.raw_host or "", url.port or 0)
        route = Route(*host, tls if secure else None, proxy, socket)
        try:
            try:
                async with alarm:
                    connection, answer = await self._pool.ask(url, route, method, head, watched)
                    answered = True
            finally:
                answered = True
        except Exception as error:
            fault = fault_of(error, idle_s, None if socket else url)
            if type(fault) is ConnectionLost and self._may_want_certificate(url, tls, error, fault):
                fault = HungUp(fault.message, authority=url.raw_authority)
            raise fault from error
        if answer.status == 407 and proxy is not None:
            connection.close()
            raise proxy_refusal(answer.status, proxy, url)
        self._answered.add(url.authority)

        give_back = partial(self._pool.give_back, route)
        response = Response(url, answer, connection, give_back, idle_s, self._idle_bytes)
        if answer.status >= 400:
            try:
                await response.keep_body()
            except BaseException:
                response.close()
                raise
        return response

    def _may_want_certificate(
        self, url: URL, tls: Tls, error: Exception, fault: ConnectionLost
    ) -> bool:
        """Return whether a cut may mean that: by TLS 1.3 servers hang up when the handshake is done."""
        if fault.unsent or isinstance(error, TimeoutError):
            return False  # there was no such host, or it said nothing
        return url.scheme == "https" and not tls.keypairs and url.authority not in self._answered

    def _context(self, tls: Tls) -> ssl.SSLContext:
        context = self._contexts.get(tls)
        if context is None:
            context = self._contexts[tls] = make_context(tls)
        return context


def _framing(method: str, has_body: bool, length: int | None) -> dict[str, str]:
    """Return the header that says where a body ends, none for a message that has none."""
    if has_body and length is None:
        return {"Transfer-Encoding": "chunked"}
    if has_body or method in ("POST", "PUT", "PATCH"):
        return {"Content-Length": str(length if has_body else 0)}
    return {}


def _head(method: str, url: URL, headers: Mapping[str, str], proxy: Proxy | None) -> bytes:
    """Write what comes before a body.

    Raises:
        HttpFault: a URL or header that would become something else on the wire, or a proxy that
            cannot be.
    """
    if not url.raw_host:
        raise HttpFault("not a URL")
    place = bracketed(url.raw_host)
    if url.port is not None and not url.is_default_port():
        place += f":{url.port}"
    lines = [f"Host: {place}", *(f"{name}: {value}" for name, value in headers.items())]
    target = url.raw_path_qs or "/"
    if proxy and url.scheme == "http":
        target = f"http://{place}{target}"
        lines += proxy_lines(proxy_url(proxy))
    if any(ord(char) <= 32 or ord(char) >= 127 for char in target):
        raise HttpFault("not a URL")
    if any(char in line for line in lines for char in "\r\n\0"):
        raise HttpFault("a header with a line break")
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()


async def _watched(body: AsyncIterator[bytes], touch: Callable[[], None]) -> AsyncGenerator[bytes]:
    try:
        async for data in body:
            touch()
            yield data
        touch()
    finally:
        if isinstance(body, AsyncGenerator):  # what it has open is closed now, not at some time
            await body.aclose()


async def _chunked(body: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Give each piece its length, and the body its end [RFC 9112, 7.1]."""
    async with aclosing(body):
        async for data in body:
            if data:  # an empty chunk would be the end
                yield b"%x\r\n" % len(data)
                yield data
                yield b"\r\n"
    yield b"0\r\n\r\n"


def origin_of(url: URL) -> Origin:
    """Return the origin that a URL belongs to."""
    return url.scheme, (url.host or "").lower(), url.port or 0
