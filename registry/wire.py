"""HTTP as aiohttp speaks it: one try of one request, with its failures sorted.

The only module that touches aiohttp, which it imports with the first request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pybuild.registry.faults import RegistryFault, printable
from pybuild.registry.hosts import Tls
from pybuild.registry.tls import make_context

if TYPE_CHECKING:
    import aiohttp
    from multidict import CIMultiDictProxy
    from yarl import URL

USER_AGENT = "pybuild/0.1"
_ERROR_BODY_BYTES = 64 << 10
_READ_BUFFER_BYTES = 1 << 20
_DIALS = 3  # a host that is not there should be said soon


class ConnectionLost(RegistryFault):
    """No connection, a cut one or silence; worth another try.

    Attributes:
        unsent: the request surely had no effect.
        tries: how many tries are worth it in all.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        hints: Sequence[str] = (),
        unsent: bool = False,
        tries: int = 1000,
    ) -> None:
        super().__init__(message, status=status, hints=hints)
        self.unsent = unsent
        self.tries = tries


class NotTls(ConnectionLost):
    """The TLS handshake failed in a way that a plain HTTP server causes."""


class Response:
    """An answer; its body is read at most once.

    Attributes:
        body: of an error status, its first 64 KiB; else empty.
    """

    def __init__(
        self, raw: aiohttp.ClientResponse, body: bytes, idle_s: float, idle_bytes: int
    ) -> None:
        self._raw = raw
        self._idle_s = idle_s
        self._idle_bytes = idle_bytes
        self.body = body

    @property
    def status(self) -> int:
        return self._raw.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._raw.headers

    @property
    def url(self) -> URL:
        return self._raw.url

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
        content = self._raw.content
        received, mark, deadline = 0, 0, loop.time() + self._idle_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    data = await content.readany()
            except Exception as error:
                raise lost(error, self._idle_s) from error
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
            RegistryFault: it is longer than *limit* bytes.
        """
        parts = bytearray()
        async for data in self.chunks():
            parts += data
            if len(parts) > limit:
                raise RegistryFault(f"answer is longer than {limit} bytes")
        return bytes(parts)

    def close(self) -> None:
        """Give the connection back, or drop it when there is a rest in it; idempotent."""
        if self._raw.content.at_eof():
            self._raw.release()
        else:
            self._raw.close()


class Wire:
    """The session and its TLS contexts."""

    def __init__(self, connect_s: float, idle_s: float, idle_bytes: int) -> None:
        self._connect_s = connect_s
        self._idle_s = idle_s
        self._idle_bytes = idle_bytes
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._answered: set[str] = set()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        tls: Tls,
        proxy: str | None,
        body: AsyncIterator[bytes] | None,
        length: int | None,
        idle_s: float | None = None,
    ) -> Response:
        """Make one try; follows nothing, retries nothing. A *length* of None is not known yet.

        Args:
            idle_s: give up sooner than usual, connecting included.

        Raises:
            ConnectionLost: worth another try.
            RegistryFault: not.
        """
        session = self._open_session()
        loop = asyncio.get_running_loop()
        sent = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT, **headers}
        if body is None:
            length = 0
        if length is not None and (body is not None or method in ("POST", "PUT", "PATCH")):
            sent["Content-Length"] = str(length)
        alarm = asyncio.timeout(self._connect_s + self._idle_s if idle_s is None else idle_s)
        idle_s = self._idle_s if idle_s is None else idle_s

        def touch() -> None:
            if alarm.when() is not None and not answered and not alarm.expired():
                alarm.reschedule(loop.time() + idle_s)

        answered = False
        context = self._context(tls) if url.scheme == "https" else True
        try:
            try:
                async with alarm:
                    raw = await session.request(
                        method,
                        url,
                        headers=sent,
                        data=_watched(body, touch) if body is not None and length != 0 else None,
                        ssl=context,
                        proxy=proxy,
                        allow_redirects=False,
                    )
                    answered = True
            finally:
                answered = True
        except Exception as error:
            fault = lost(error, idle_s, url)
            if type(fault) is ConnectionLost and self._may_want_certificate(url, tls, error, fault):
                fault.hints = (
                    f"if {url.authority} wants a certificate of yours, keep it in certs.d",
                )
            raise fault from error
        self._answered.add(url.authority)
        if raw.status < 400:
            return Response(raw, b"", idle_s, self._idle_bytes)
        try:
            text = await self._error_body(raw)
        except BaseException:
            raw.close()
            raise
        return Response(raw, text, idle_s, self._idle_bytes)

    def _may_want_certificate(
        self, url: URL, tls: Tls, error: Exception, fault: ConnectionLost
    ) -> bool:
        """Whether a cut may mean that: by TLS 1.3 servers hang up when the handshake is done."""
        if fault.unsent or isinstance(error, TimeoutError):
            return False  # there was no such host, or it said nothing
        return url.scheme == "https" and not tls.keypairs and url.authority not in self._answered

    async def _error_body(self, raw: aiohttp.ClientResponse) -> bytes:
        """What an error says; a cut there does not hide the status."""
        response = Response(raw, b"", min(self._idle_s, 10.0), self._idle_bytes)
        parts = bytearray()
        try:
            async for data in response.chunks():
                parts += data
                if len(parts) > _ERROR_BODY_BYTES:
                    break
        except RegistryFault:
            pass
        return bytes(parts[:_ERROR_BODY_BYTES])

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._connect_s, sock_read=None
                ),
                # Digests are of the bytes as they are; cookies are nobody's business here.
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_BUFFER_BYTES,
                requote_redirect_url=False,
            )
        return self._session

    def _context(self, tls: Tls) -> ssl.SSLContext:
        context = self._contexts.get(tls)
        if context is None:
            context = self._contexts[tls] = make_context(tls)
        return context


async def _watched(body: AsyncIterator[bytes], touch: Callable[[], None]) -> AsyncIterator[bytes]:
    async for data in body:
        touch()
        yield data
    touch()


def lost(error: Exception, idle_s: float, url: URL | None = None) -> Exception:
    """Sort what went wrong below HTTP; programming errors come back as they are."""
    import aiohttp

    where = f" ({printable(url.authority)})" if url is not None else ""
    match error:
        case RegistryFault():
            return error
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            reason = getattr(cause, "verify_message", "") or str(cause)
            return RegistryFault(
                f"certificate verify failed: {printable(reason)}{where}",
                hints=[f'give its authority as ca of registry."{url.authority}"'] if url else [],
            )
        case aiohttp.ClientConnectorSSLError():
            reason = _tls_reason(error.os_error)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING"):
                return NotTls(
                    f"server gave HTTP response to HTTPS client{where}",
                    hints=[f'set http = true for registry."{url.authority}"'] if url else [],
                    unsent=True,
                    tries=1,
                )
            return NotTls(f"TLS: {printable(reason.lower().replace('_', ' '))}{where}", unsent=True)
        case aiohttp.ClientConnectorError():
            os_error = error.os_error
            if isinstance(os_error, socket.gaierror):
                return ConnectionLost(f"no such host{where}", unsent=True, tries=_DIALS)
            reason = _os_reason(os_error, "cannot connect")
            secure = url is not None and url.scheme == "https"
            if secure and isinstance(os_error, ConnectionResetError | BrokenPipeError):
                return NotTls(f"{reason}{where}", unsent=True)
            if secure and url is not None and url.explicit_port is None:
                return NotTls(f"{reason}{where}", unsent=True)
            return ConnectionLost(f"{reason}{where}", unsent=True, tries=_DIALS)
        case aiohttp.InvalidURL():
            return RegistryFault("not a URL")
        case aiohttp.ClientHttpProxyError():
            return RegistryFault(f"proxy answers {error.status}{where}")
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return ConnectionLost(f"no answer for {idle_s:g} s{where}")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return ConnectionLost(f"connection cut{where}")
        case aiohttp.ClientOSError() | OSError():
            return ConnectionLost(f"{_os_reason(error, 'connection cut')}{where}")
        case aiohttp.ClientError() | ValueError():
            return RegistryFault(f"answer cannot be read: {printable(str(error), 120)}{where}")
        case _:
            return error


def _os_reason(error: OSError, otherwise: str) -> str:
    """The system's words for it; asyncio has its own, with addresses in them."""
    if error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return otherwise


def _tls_reason(error: object) -> str:
    return str(getattr(error, "reason", None) or error)


def origin_of(url: URL) -> tuple[str, str, int]:
    """Scheme, host and port: what a secret is meant for."""
    return url.scheme, (url.host or "").lower(), url.port or 0
