"""One request to a registry, made to happen: schemes, mirrors, logins, errors that name it [REG-11].

yarl is imported when the first request is made, and not before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from pybuild.model.clock import Clock
from pybuild.model.dataclass import dataclass
from pybuild.net.http1.client import Origin, Response, Wire, origin_of
from pybuild.net.http1.faults import ConnectionLost, HttpFault, NotTls, printable
from pybuild.net.http1.patience import Patience
from pybuild.net.http1.proxies import Proxy, proxy_for
from pybuild.net.http1.redirects import follow, joined
from pybuild.net.http1.retries import HttpLimits, Retries
from pybuild.net.http1.tlsfiles import Tls
from pybuild.registry.client.auth import Authenticator
from pybuild.registry.client.challenge import Scopes
from pybuild.registry.client.credentials import Credentials
from pybuild.registry.client.faults import ContentFault, error_codes, hints_of, status_text
from pybuild.registry.client.hosts import Endpoint, Hosts
from pybuild.registry.client.ratelimits import RateLimit

if TYPE_CHECKING:
    from yarl import URL

Body = Callable[[], AsyncIterator[bytes]]
"""Makes the same bytes anew for each try."""

_TOKEN_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLimits(HttpLimits):
    """The bounds of waits and tries.

    Attributes:
        mirror_attempts: tries at a mirror, after which the origin is asked.
    """

    mirror_attempts: int = 3
    connections_per_host: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        path: below the endpoint's prefix, with a leading slash; unquoted, without a query.
        url: in place of *path*: where an answer told us to go on.
        action: its purpose, in errors: ``push ghcr.io/acme/app:1``.
        length: of the body; None: it is known when the body ends.
        retry: whether a try that may have had an effect may be repeated.
    """

    endpoint: Endpoint
    method: str
    repository: str
    action: str
    scopes: Scopes
    path: str = ""
    url: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Body | None = None
    length: int | None = 0
    retry: bool = True


class Transport:
    """All connections of a client. Close it."""

    def __init__(
        self,
        hosts: Hosts,
        credentials: Credentials,
        clock: Clock,
        *,
        environ: Mapping[str, str] | None = None,
        limits: TransferLimits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """*environ* is read for proxies only; *jitter* gives 0 ≤ x < 1."""
        self.limits = limits or TransferLimits()
        self._hosts = hosts
        self._auth = Authenticator(credentials, self, clock)
        self._environ = dict(environ or {})
        self._wire = Wire(self.limits.connect_s, self.limits.idle_s, self.limits.idle_bytes)
        self._retries = Retries(
            self.limits,
            describe=lambda response: status_text(response.status, response.body),
            is_final=_is_used_up,
            now=clock.now,
            sleep=sleep,
            jitter=jitter,
        )
        self._settled: dict[str, str] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    def impatient(self, limits: TransferLimits, patience: Patience) -> Transport:
        """Return a transport over the same connections, for requests that may fail."""
        twin = copy(self)
        twin.limits, twin._retries = limits, self._retries.impatient(limits, patience)
        twin._auth = self._auth.through(twin)
        return twin

    def is_in_the_clear(self, netloc: str) -> bool:
        """Whether a server has answered without TLS."""
        return self._settled.get(netloc) == "http"

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._wire.close()

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Response, None]:
        """Send *request*; the answer's body can be read until the context is left.

        A slot of its host is held meanwhile, so no second request may be made inside. Every
        status comes back; see `expect` for turning the wrong ones into errors.

        Raises:
            HttpFault: no usable answer, after all tries.
        """
        netloc = request.endpoint.netloc
        slots = self._slots.get(netloc)
        if slots is None:
            slots = asyncio.Semaphore(self.limits.connections_per_host)
            self._slots[netloc] = slots
        async with slots:
            try:
                response = await self._retries.send(
                    netloc,
                    lambda: self._authorised(request),
                    repeatable=request.retry,
                    attempts=self._attempts(request),
                )
            except HttpFault as error:
                raise self._fault(request, error) from error
            try:
                yield response
            finally:
                response.close()

    async def fetch(self, request: Request, limit: int) -> tuple[Response, bytes]:
        """Send *request* and read all of a small answer; one that was cut is asked for again.

        Returns the answer, closed, and its body; of an error status, see `Response.body`.

        Raises:
            HttpFault: no usable answer, after all tries.
            ContentFault: it is longer than *limit* bytes.
        """
        attempts = self._attempts(request)
        for attempt in range(attempts):
            async with self.open(request) as response:
                if response.status >= 400:
                    return response, response.body
                try:
                    return response, await response.read(limit)
                except ConnectionLost as error:
                    if attempt + 1 == attempts:
                        raise self._fault(request, error) from error
                except HttpFault as error:
                    raise ContentFault(f"{_about(request)}: {error.message}") from error
            await self.pause(attempt)
        raise AssertionError("the last try returns or raises")

    def refusal(self, request: Request, response: Response) -> HttpFault:
        """The error for an answer that was not hoped for."""
        status = response.status
        hints: list[str] = []
        if status in (401, 403):
            hints = self._auth.hints(request.endpoint.registry)
        elif status == 429:
            registry = request.endpoint.registry
            hints = [RateLimit.of(response.headers).hint(registry, self._auth.user(registry))]
        return HttpFault(
            f"{_about(request)}: {status_text(status, response.body)}",
            status=status,
            hints=hints[:2],
        )

    def _fault(self, request: Request, error: HttpFault) -> HttpFault:
        hints = [*error.hints, *hints_of(error, self._hosts.file)]
        if error.status in (401, 403):
            hints = self._auth.hints(request.endpoint.registry)
        message = f"{_about(request)}: {error.message}"
        return error.saying(message).copy_with(hints=tuple(hints[:2]))

    def _attempts(self, request: Request) -> int:
        limits = self.limits
        is_mirror = bool(request.endpoint.namespace)
        return min(limits.mirror_attempts, limits.attempts) if is_mirror else limits.attempts

    def _idle_s(self, method: str) -> float | None:
        """Return how long an answer may take; one to an upload takes as long as others."""
        return self._retries.idle_s if method in ("GET", "HEAD") else None

    async def pause(self, attempt: int) -> None:
        """Wait as long as before the try that follows number *attempt*, counted from 0."""
        await self._retries.pause(attempt)

    async def _authorised(self, request: Request) -> Response:
        header = await self._auth.header(request.endpoint, request.repository, request.scopes)
        # Twice: another request's token may serve this one no longer than until it is tried.
        for _ in range(2):
            response, at_home = await self._settling(request, header)
            if response.status == 403 and at_home:
                renewed = await self._auth.renewed(request.endpoint, request.repository, header)
                if renewed is None:
                    return response
                response.close()
                header = renewed
                continue
            if response.status != 401 or not at_home:
                return response
            challenges = response.headers.getall("WWW-Authenticate", [])
            response.close()
            answer = await self._auth.answer(
                request.endpoint, request.repository, request.scopes, challenges, header
            )
            if answer is None:
                return response
            header = answer
        response, _ = await self._settling(request, header)
        return response

    async def _settling(self, request: Request, header: str | None) -> tuple[Response, bool]:
        """Send once; find out first whether the host speaks TLS, where both are allowed."""
        from yarl import URL

        endpoint = request.endpoint
        key = endpoint.netloc
        settled = self._settled.get(key)
        *first, final = (settled,) if settled in endpoint.schemes else endpoint.schemes
        for scheme in first:
            url = URL(f"{scheme}://{key}", encoded=True)
            if self._proxy(url) is None and await self._wire.is_plain(url):
                continue
            try:
                result = await self._follow(request, scheme, header)
            except NotTls:
                continue
            self._settled[key] = scheme
            return result
        result = await self._follow(request, final, header)
        # A TLS server answers 400 to plain HTTP: then the first scheme only had bad luck. A registry
        # that refuses says why.
        if first and result[0].status == 400 and not error_codes(result[0].body):
            result[0].close()
            raise ConnectionLost("TLS handshake failed", unsent=True)
        self._settled[key] = final
        return result

    async def _follow(
        self, request: Request, scheme: str, header: str | None
    ) -> tuple[Response, bool]:
        """Send and follow redirects; also says whether the answer is the registry's own."""
        from yarl import URL

        endpoint = request.endpoint
        base = URL(f"{scheme}://{endpoint.netloc}", encoded=True)
        home = origin_of(base)
        text = request.url or f"{base}{endpoint.prefix}{quote(request.path, safe='/:@')}"
        query = list(request.query)
        if endpoint.namespace and not request.url:
            query.append(("ns", endpoint.namespace))
        if query:
            text += ("&" if "?" in text else "?") + urlencode(query)

        async def ask(url: URL, at_home: bool) -> Response:
            headers = dict(request.headers)
            if at_home and header is not None:
                headers["Authorization"] = header
            return await self._wire.send(
                request.method,
                url,
                headers,
                tls=self._tls(endpoint, url, home, at_home),
                proxy=self._proxy(url),
                body=request.body() if request.body is not None else None,
                length=request.length,
                idle_s=self._idle_s(request.method),
            )

        start = URL(text, encoded=True)
        insecure = endpoint.tls.insecure
        return await follow(ask, start, home, request.method, may_leave_tls=insecure)

    def _tls(self, endpoint: Endpoint, url: URL, home: Origin, at_home: bool) -> Tls:
        if origin_of(url)[1:] != home[1:]:
            return self._hosts.tls_of(url.authority, replace(endpoint.tls, keypairs=()))
        # A certificate of ours is a login, too.
        return endpoint.tls if at_home else replace(endpoint.tls, keypairs=())

    def _proxy(self, url: URL) -> Proxy | None:
        return proxy_for(url.scheme, url.host or "", url.port or 0, self._environ)

    async def fetch_token(
        self,
        endpoint: Endpoint,
        method: str,
        realm: str,
        *,
        query: Sequence[tuple[str, str]],
        form: Sequence[tuple[str, str]],
        authorization: str | None,
    ) -> tuple[int, bytes]:
        """Ask a token server, as `auth.TokenFetcher` has it."""
        from yarl import URL

        try:
            start = joined(URL("https://invalid/"), realm)
        except HttpFault:
            start = None
        if start is None or start.host == "invalid" or start.user or start.password:
            raise HttpFault(f"token server {printable(realm.partition('?')[0])}: not a URL")
        if query:
            text = str(start)
            start = URL(text + ("&" if "?" in text else "?") + urlencode(query), encoded=True)
        home = origin_of(URL(f"https://{endpoint.netloc}", encoded=True))
        data = urlencode(form).encode()

        body = b""

        async def ask(url: URL, at_home: bool) -> Response:
            headers = {"Accept": "application/json"}
            if authorization is not None and at_home:
                headers["Authorization"] = authorization
            if form:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            return await self._wire.send(
                method,
                url,
                headers,
                tls=self._tls(endpoint, url, home, at_home),
                proxy=self._proxy(url),
                body=once_only(data) if form else None,
                length=len(data),
                idle_s=self._idle_s("GET"),
            )

        async def once() -> Response:
            nonlocal body
            if method != "GET":
                response = await ask(start, True)
            else:
                insecure = endpoint.tls.insecure
                response, _ = await follow(
                    ask, start, origin_of(start), method, may_leave_tls=insecure
                )
            try:
                body = response.body
                if response.status < 400:
                    body = await response.read(_TOKEN_LIMIT_BYTES)
            finally:
                response.close()
            return response

        try:
            answer = await self._retries.send(start.authority, once)
            return answer.status, body
        except HttpFault as error:
            server = printable(f"{start.scheme}://{start.authority}{start.path}")
            raise error.saying(f"token server {server}: {error.message}") from error


def _is_used_up(response: Response) -> bool:
    """Return whether the next try that a limit allows is far away."""
    return response.status == 429 and RateLimit.of(response.headers).is_used_up


async def once_only(data: bytes) -> AsyncIterator[bytes]:
    """*data* as a body."""
    yield data


def _about(request: Request) -> str:
    path = request.path and request.endpoint.prefix + request.path
    if not path:
        path = "/" + request.url.partition("://")[2].partition("/")[2].partition("?")[0]
    return f"{request.action}: {request.method} {printable(path)}"
