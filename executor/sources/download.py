"""One file by http(s), whole and digested: redirects, retries and bounds [ADD-4, ADD-6].

The only module of the room that touches aiohttp, which it imports with the first request.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.trust import trusting

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

ProxyFor = Callable[[str, str, int], str | None]
OnProgress = Callable[[int, int], None]

# Some servers give builders other pages than browsers, and know them by their most common name.
USER_AGENT = "pybuild/0.1 (compatible; buildkit/v0.30)"
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 10
_TRIES = 4
_FIRST_WAIT_S = 0.2
_TELL_S = 0.1
_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one download.

    Attributes:
        idle_s, idle_bytes: each idle time must bring that many bytes, or it is silence.
        free_share: of what the disk has free, how much a file may take.
    """

    max_bytes: int | None = None
    connect_s: float = 30.0
    idle_s: float = 60.0
    idle_bytes: int = 1024
    free_share: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """An answer.

    Attributes:
        sha256: hex, over the file that was written; empty when nothing changed.
        etag, last_modified: as the server wrote them, or "".
    """

    sha256: str
    size: int
    etag: str
    last_modified: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The validators of an earlier answer for the same URL."""

    etag: str
    last_modified: str


class _Again(Exception):
    """Worth another try; says what went wrong."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Downloader:
    """Fetches files; one session for all."""

    def __init__(self, proxy_for: ProxyFor, limits: Limits | None = None) -> None:
        self._proxy_for = proxy_for
        self._limits = limits or Limits()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(
        self,
        url: str,
        path: str,
        *,
        authorization: str = "",
        known: Known | None = None,
        on_progress: OnProgress | None = None,
    ) -> Got:
        """Write what *url* holds to the new file *path*, unless it is still what is *known*.

        Args:
            authorization: a header for the host of *url*; no other host gets it, nor that one once
                another has said where to ask.

        Raises:
            UserError: the URL is none, or the server refuses it.
            EnvironmentFault: the server cannot be reached, or sends too much or too slowly.
        """
        shown = shown_url(url)
        if known is not None and known.etag:
            # Some servers know their tags and nothing of conditions: asked for the file, they
            # would send it. Whatever else comes of this question, the next one tells.
            with suppress(_Again, UserError, EnvironmentFault):
                held = await self._try(url, path, authorization, known, None, head=True)
                if held is not None:
                    return held
        wait_s = _FIRST_WAIT_S
        for left in range(_TRIES - 1, -1, -1):
            try:
                got = await self._try(url, path, authorization, known, on_progress)
            except _Again as again:
                if not left:
                    raise EnvironmentFault(f"cannot fetch {shown}: {again}") from again
                await asyncio.sleep(max(wait_s, again.wait_s))
                wait_s *= 3
                continue
            if got is not None:
                return got
        raise AssertionError

    async def _try(
        self,
        url: str,
        path: str,
        authorization: str,
        known: Known | None,
        on_progress: OnProgress | None,
        *,
        head: bool = False,
    ) -> Got | None:
        """Ask once; with *head* for no content, so that what changed gives None."""
        import aiohttp
        from yarl import URL

        shown = shown_url(url)
        try:
            target = URL(url, encoded="%" in url)
            if target.scheme not in ("http", "https") or not target.host:
                raise ValueError("no host")
            origin = target.origin()
        except ValueError as error:
            raise UserError(f'invalid URL "{shown}": {error}') from error
        is_home = True
        for _ in range(_MAX_REDIRECTS + 1):
            headers = {"Accept-Encoding": "identity"}
            is_home = is_home and target.origin() == origin
            if is_home and authorization:
                headers["Authorization"] = authorization
            if known is not None and known.etag:
                headers["If-None-Match"] = known.etag
            if known is not None and known.last_modified:
                headers["If-Modified-Since"] = known.last_modified
            try:
                response = await self._request(target, headers, is_home, head=head)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise _lost(error, target) from error
            except ValueError as error:
                raise UserError(f'invalid URL "{shown}": {error}') from error
            try:
                if head and response.status not in _REDIRECTS:
                    return _unchanged(response, known)
                if response.status not in _REDIRECTS:
                    return await self._take(response, path, known, shown, on_progress)
                place = response.headers.get("Location", "")
                target = _redirected(target, place, shown)
            finally:
                response.close()
        raise UserError(f"cannot fetch {shown}: more than {_MAX_REDIRECTS} redirects")

    async def _request(
        self, target: URL, headers: Mapping[str, str], is_home: bool, *, head: bool
    ) -> aiohttp.ClientResponse:
        import aiohttp

        if self._session is None:
            limits = self._limits
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                headers={"User-Agent": USER_AGENT},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect_s, sock_read=limits.idle_s
                ),
                connector=aiohttp.TCPConnector(ssl=trusting()),
            )
        bare = target.with_user(None)
        if is_home and target.user is not None and "Authorization" not in headers:
            pair = f"{target.user}:{target.password or ''}".encode()
            headers = {**headers, "Authorization": "Basic " + b64encode(pair).decode()}
        proxy = self._proxy_for(target.scheme, target.host or "", target.port or 0)
        ask = self._session.head if head else self._session.get
        return await ask(bare, headers=headers, proxy=proxy, allow_redirects=False)

    async def _take(
        self,
        response: aiohttp.ClientResponse,
        path: str,
        known: Known | None,
        shown: str,
        on_progress: OnProgress | None,
    ) -> Got:
        status = response.status
        etag = response.headers.get("ETag", "")[:1024]
        last_modified = response.headers.get("Last-Modified", "")[:128]
        held = _unchanged(response, known)
        if held is not None:
            return held  # some servers answer in full although the tag is the same
        if status in _RETRIED:
            raise _Again(f"invalid response status {status}", _retry_after(response))
        if status == 304 or not 200 <= status < 400:
            hints: tuple[str, ...] = ()
            if status in (401, 403):
                host = urlsplit(shown).hostname
                hints = (f"pass credentials with --secret id=HTTP_AUTH_TOKEN_{host},…",)
            raise UserError(f"cannot fetch {shown}: invalid response status {status}", hints=hints)
        digest, size = await self._write(response, path, shown, on_progress)
        return Got(sha256=digest, size=size, etag=etag, last_modified=last_modified)

    async def _write(
        self,
        response: aiohttp.ClientResponse,
        path: str,
        shown: str,
        on_progress: OnProgress | None,
    ) -> tuple[str, int]:
        import aiohttp

        limits = self._limits
        limit = limits.max_bytes or _free(path, limits.free_share)
        total = response.content_length or 0
        if total > limit:
            raise EnvironmentFault(
                f"cannot fetch {shown}: {total} bytes, there is room for {limit}"
            )
        digest, size = hashlib.sha256(), 0
        loop = asyncio.get_running_loop()
        mark, deadline, told = 0, loop.time() + limits.idle_s, 0.0
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        data = await response.content.readany()
                except TimeoutError as error:
                    raise EnvironmentFault(
                        f"cannot fetch {shown}: the server sends too slowly, {size} bytes so far"
                    ) from error
                except (aiohttp.ClientError, OSError) as error:
                    raise _lost(error, response.url) from error
                if not data:
                    break
                size += len(data)
                if size > limit:
                    raise EnvironmentFault(f"cannot fetch {shown}: it goes on after {limit} bytes")
                if size - mark >= limits.idle_bytes:
                    mark, deadline = size, loop.time() + limits.idle_s
                digest.update(data)
                file.write(data)
                if on_progress is not None and loop.time() - told >= _TELL_S:
                    told = loop.time()
                    on_progress(size, total)
        if on_progress is not None:
            on_progress(size, size)
        return digest.hexdigest(), size


def shown_url(url: str) -> str:
    """Return a URL without credentials and query, which may be secret."""
    scheme, mark, rest = url.partition("#")[0].partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


def _redirected(at: URL, location: str, shown: str) -> URL:
    from yarl import URL

    try:
        target = at.join(URL(location, encoded="%" in location))
        if not location or target.scheme not in ("http", "https") or not target.host:
            raise ValueError
    except ValueError:
        place = shown_url(location)[:200]
        raise UserError(f'cannot fetch {shown}: it redirects to "{place}"') from None
    if at.scheme == "https" and target.scheme == "http":
        place = shown_url(str(target))[:200]
        raise UserError(
            f'cannot fetch {shown}: it redirects from https to plain http, to "{place}"',
            hints=("name the URL at which the file is, if it may come in the clear",),
        )
    return target


def _lost(error: BaseException, target: URL) -> _Again:
    reason = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()
    return _Again(f"{target.host}: {reason}")


def _unchanged(response: aiohttp.ClientResponse, known: Known | None) -> Got | None:
    """Return the answer for the *known* file, if the server says that it is still the same."""
    if known is None:
        return None
    etag = response.headers.get("ETag", "")[:1024]
    is_same = bool(known.etag) and _weak(etag) == _weak(known.etag)
    if response.status == 304 or (response.status == 200 and is_same):
        return Got(sha256="", size=0, etag=known.etag, last_modified=known.last_modified)
    return None


def _weak(etag: str) -> str:
    return etag.removeprefix("W/")


def _retry_after(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 10.0) if text.isascii() and text.isdigit() else 0.0


def _free(path: str, share: float) -> int:
    disk = os.statvfs(os.path.dirname(path))
    return int(disk.f_bavail * disk.f_frsize * share)
