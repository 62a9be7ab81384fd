"""The proxy of one step: HTTP requests, in the clear and inside TLS, judged, recorded and handed on.

TLS ends here: the step is shown a certificate by an authority that it was given for the purpose. Who does
not trust that, or speaks something else than HTTP, gets no further.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

from yarl import URL

from pybuild.executor.proxies.record import (
    UPSTREAM_ERROR,
    ProxyRecord,
    judged_url,
    plain_url,
    shown_url,
)
from pybuild.executor.proxies.requests import (
    HOP_BY_HOP,
    MOST_HEAD_BYTES,
    BadRequest,
    ProxyRequest,
    read_request,
)
from pybuild.executor.proxies.upstream import Upstream
from pybuild.model.errors import PybuildError, UserError
from pybuild.net.http1.answer import Answer
from pybuild.net.http1.connection import Connection

Judge = Callable[[str], Awaitable[str]]
"""Returns the URL to ask in place of one, most often itself. Raises PybuildError where it is refused."""

_MOST_CONNECTIONS = 256
_HANDSHAKE_S = 30.0
_WITHOUT_BODY = (204, 304)
_PARTIAL = 206


class StepProxy:
    """Serves the connections of one step until it is closed.

    Args:
        context: returns the server's side of TLS for a host.
    """

    def __init__(
        self,
        upstream: Upstream,
        context: Callable[[str], ssl.SSLContext],
        judge: Judge,
        record: ProxyRecord,
    ) -> None:
        self._upstream = upstream
        self._context = context
        self._judge = judge
        self._record = record
        self._slots = asyncio.Semaphore(_MOST_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Take connections from *listener*, which stays the caller's, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()  # the others wait in the kernel
            near, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._served(near))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Drop the connections; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled():
            task.exception()  # of a connection alone

    async def _served(self, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near, limit=MOST_HEAD_BYTES)
        try:
            with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
                await self._talk(reader, writer)
        finally:
            writer.transport.abort() if _is_cancelled() else writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await read_request(reader)
                if request is None:
                    return
                if request.method == "CONNECT":
                    await self._tunnel(request, reader, writer)
                    return
                url = _absolute(request)
            except BadRequest as error:
                await _refuse(writer, 400, f"bad request: {error}")
                return
            if not await self._exchange(request, url, reader, writer):
                return

    async def _tunnel(
        self, opening: ProxyRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Be the server that a step wants a connection to, and serve the requests in it."""
        authority = opening.target
        host = _host(f"https://{authority}/")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        inner = asyncio.StreamReader(limit=MOST_HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(inner)
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                writer.transport,
                protocol,
                self._context(host),
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE_S,
            )
        except (OSError, ssl.SSLError):
            # It does not trust the proxy, or it speaks something else.
            self._record.add_request(
                "CONNECT", f"https://{authority}/", 0, why="no TLS was agreed on"
            )
            return
        if transport is None:
            return
        protocol.connection_made(transport)
        tls = asyncio.StreamWriter(transport, protocol, inner, loop)
        try:
            while True:
                try:
                    request = await read_request(inner)
                    if request is None:
                        return
                    if not request.target.startswith("/"):
                        raise BadRequest("its target is no path")
                    _host(url := plain_url(f"https://{authority}{request.target}"))
                except BadRequest as error:
                    await _refuse(tls, 400, f"bad request: {error}")
                    return
                if not await self._exchange(request, url, inner, tls):
                    return
        finally:
            tls.close()

    async def _exchange(
        self,
        request: ProxyRequest,
        url: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one request; return whether another one may follow on the connection."""
        method = request.method
        try:
            url = await self._judged(method, url)
        except PybuildError as error:
            self._record.add_request(method, url, 403, why=error.message)
            await _refuse(writer, 403, "Forbidden")
            return False
        body = request.body(reader, writer)
        head = _head(request, url)
        try:
            connection, answer, give_back = await self._upstream.ask(
                method, URL(url, encoded=True), head, body if request.length else None
            )
        except (PybuildError, OSError, ssl.SSLError, ValueError, *self._upstream.faults) as error:
            await body.aclose()
            why = error.message if isinstance(error, PybuildError) else str(error)
            self._record.add_request(method, url, 502)
            self._record.add_uncaptured(method, url, UPSTREAM_ERROR)
            await _refuse(writer, 502, why or type(error).__name__)
            return False
        location = answer.headers.get("Location", "")
        self._record.add_request(method, url, answer.status, location)
        digest = hashlib.sha256()
        try:
            keeps = await _hand_back(request, connection, answer, writer, digest.update)
        except BaseException:
            self._record.add_uncaptured(method, url, "body_read_failed")
            connection.close()
            raise
        finally:
            give_back()
        self._note(request, url, answer, digest.hexdigest())
        return keeps and request.keeps and (not request.length or request.is_read)

    async def _judged(self, method: str, url: str) -> str:
        judged = judged_url(url)
        target = await self._judge(judged)
        if target == judged:
            return url
        if method != "GET":
            raise UserError(f"a policy converts {judged}, which is done for GET alone")
        if urlsplit(target).scheme not in ("http", "https"):
            raise UserError(f"a policy converts {judged} to {shown_url(target)}")
        return target

    def _note(self, request: ProxyRequest, url: str, answer: Answer, sha256: str) -> None:
        add = partial(self._record.add_uncaptured, request.method, url)
        if request.method != "GET":
            add("method_not_materializable")
        elif request.header("range") or answer.status == _PARTIAL:
            add("partial_response")
        elif answer.status >= 400:
            add("unsuccessful_response")
        elif 200 <= answer.status < 300:
            self._record.add_material(url, sha256)


async def _hand_back(
    request: ProxyRequest,
    connection: Connection,
    answer: Answer,
    writer: asyncio.StreamWriter,
    update: Callable[[bytes], object],
) -> bool:
    """Hand an answer to the step; return whether its end can be seen without closing the connection.

    Raises:
        OSError, and what `Connection.read` raises: either of the two went away.
    """
    has_body = request.method != "HEAD" and answer.status not in _WITHOUT_BODY
    own = {one.strip().lower() for one in answer.headers.get("Connection", "").split(",")}
    lines = [
        f"{name}: {value}"
        for name, value in answer.headers.items()
        if name.lower() not in HOP_BY_HOP | own
    ]
    is_sized = "Content-Length" in answer.headers and "Transfer-Encoding" not in answer.headers
    chunked = has_body and not is_sized and not request.is_old
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    keeps = request.keeps and (is_sized or chunked or not has_body)
    if not keeps:
        lines.append("Connection: close")
    head = "\r\n".join([f"HTTP/1.1 {answer.status} {_reason(answer.status)}", *lines, "", ""])
    writer.write(head.encode("utf-8", "surrogateescape"))
    while has_body and (data := await connection.read()):
        update(data)
        writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return keeps


def _head(request: ProxyRequest, url: str) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{request.method} {target} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Accept-Encoding: identity",  # the digest is that of the thing itself
        *request.forwarded(),
    ]
    if request.length < 0:
        lines.append("Transfer-Encoding: chunked")
    elif request.length or request.header("content-length"):
        lines.append(f"Content-Length: {request.length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _absolute(request: ProxyRequest) -> str:
    """Return the URL of a request in the clear."""
    target = request.target
    if target.startswith("/") and request.header("host"):
        target = f"http://{request.header('host')}{target}"
    _host(target)
    return plain_url(target.partition("#")[0])


def _host(url: str) -> str:
    """Return the host of a URL.

    Raises:
        BadRequest: it is none that can be asked.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest("its target is no URL") from error
    if parts.scheme not in ("http", "https") or not host or not host.isascii():
        raise BadRequest("its target is no URL of http or https")
    if "\\" in parts.netloc or any(ord(char) <= 32 for char in url):
        raise BadRequest("its target is no URL")
    return host


async def _refuse(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    body = f"{text}\n".encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {status} {_reason(status)}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()


def _reason(status: int) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
