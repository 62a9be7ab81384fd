"""One file by http(s), whole and digested, or the word that it is still the same [ADD-4, ADD-6]."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.net.http1.client import Response, Wire, origin_of
from pybuild.net.http1.faults import BadRedirect, ConnectionLost, HttpFault, Untrusted, shown_url
from pybuild.net.http1.proxies import proxy_for
from pybuild.net.http1.redirects import REDIRECTS, follow
from pybuild.net.http1.retries import RETRIED, HttpLimits, Retries
from pybuild.net.http1.tlsfiles import Tls

if TYPE_CHECKING:
    from yarl import URL

OnProgress = Callable[[int, int], None]

# Some servers give builders other pages than browsers, and know them by their most common name.
USER_AGENT = "pybuild/0.1 (compatible; buildkit/v0.30)"
_TELL_S = 0.1
_GZIP = zlib.MAX_WBITS | 16
_MOST_HEADER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(HttpLimits):
    """Bounds of one download.

    Attributes:
        free_share: of what the disk has free, how much a file may take.
    """

    attempts: int = 4
    idle_bytes: int = 1024
    max_bytes: int | None = None
    free_share: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An answer.

    Attributes:
        sha256: hex, over the file that was written; empty when nothing changed.
        etag, last_modified: as the server wrote them, or "".
        name: the name that the server gives the file, or "".
    """

    sha256: str
    size: int
    etag: str
    last_modified: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """The validators of an earlier answer for the same URL."""

    etag: str
    last_modified: str


class Downloader:
    """Fetches files; one pool of connections for all.

    Args:
        environ: read for proxies only.
        tls: the authorities that count besides the system's.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        limits: Limits | None = None,
        *,
        tls: Tls | None = None,
    ) -> None:
        self._environ = environ
        self._limits = limits = limits or Limits()
        self._tls = tls or Tls()
        self._wire = Wire(limits.connect_s, limits.idle_s, limits.idle_bytes)
        self._retries = Retries(limits)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._wire.close()

    async def fetch(
        self,
        url: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
        known: Validators | None = None,
        on_progress: OnProgress | None = None,
    ) -> Fetched:
        """Write what *url* holds to the new file *path*, unless it is still what is *known*.

        Args:
            headers: for every host; one of ours is replaced.
            authorization: a header for the host of *url*; no other host gets it, nor that one once
                another has said where to ask.

        Raises:
            UserError: the URL is none, or the server refuses it.
            EnvironmentFault: the server cannot be reached, or sends too much or too slowly.
        """
        shown = shown_url(url)
        target = _target(url)
        secret = {"Authorization": authorization} if authorization else {}
        # Said of every request: servers have other tags for what they compress.
        plain = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **(headers or {})}
        if known is not None and known.etag:
            # Some servers know their tags and nothing of conditions: asked for the file, they
            # would send it. Whatever else comes of this question, the next one tells.
            with suppress(HttpFault):
                response = await self._ask("HEAD", target, plain, secret, known)
                response.close()
                if response.status not in REDIRECTS and (held := _unchanged(response, known)):
                    return held
        attempts = self._limits.attempts
        for attempt in range(attempts):
            try:
                response = await self._retries.send(
                    target.authority, lambda: self._ask("GET", target, plain, secret, known)
                )
                try:
                    return await self._take(response, path, known, shown, on_progress)
                finally:
                    response.close()
            except ConnectionLost as error:
                if attempt + 1 == attempts or not isinstance(error, _CutBody):
                    raise _fault(shown, error) from error
            except HttpFault as error:
                raise _fault(shown, error) from error
            await self._retries.pause(attempt)
        raise AssertionError("the last try returns or raises")

    async def _ask(
        self,
        method: str,
        target: URL,
        plain: Mapping[str, str],
        secret: Mapping[str, str],
        known: Validators | None,
    ) -> Response:
        """Return the answer of where redirects end; *secret* headers go no further than home."""
        headers = dict(plain)
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.last_modified:
            headers["If-Modified-Since"] = known.last_modified

        async def send(url: URL, at_home: bool) -> Response:
            return await self._wire.send(
                method,
                url if at_home else url.with_user(None),
                {**headers, **secret} if at_home else headers,
                tls=self._tls,
                proxy=proxy_for(url.scheme, url.host or "", url.port or 0, self._environ),
            )

        response, _ = await follow(send, target, origin_of(target), method)
        return response

    async def _take(
        self,
        response: Response,
        path: str,
        known: Validators | None,
        shown: str,
        on_progress: OnProgress | None,
    ) -> Fetched:
        status = response.status
        held = _unchanged(response, known)
        if held is not None:
            return held  # some servers answer in full although the tag is the same
        if status in RETRIED:
            raise EnvironmentFault(f"cannot fetch {shown}: invalid response status {status}")
        if status == 304 or status in REDIRECTS or not 200 <= status < 400:
            hints: tuple[str, ...] = ()
            if status in (401, 403):
                host = urlsplit(shown).hostname
                hints = (f"pass credentials with --secret id=HTTP_AUTH_TOKEN_{host},…",)
            hints = hints or (f"the server has no such file: correct {urlsplit(shown).path}",)
            raise UserError(f"cannot fetch {shown}: invalid response status {status}", hints=hints)
        digest, size = await self._write(response, path, shown, on_progress)
        return Fetched(
            sha256=digest,
            size=size,
            etag=response.headers.get("ETag", "")[:1024],
            last_modified=response.headers.get("Last-Modified", "")[:128],
            name=_attached(response.headers.get("Content-Disposition", "")),
        )

    async def _write(
        self, response: Response, path: str, shown: str, on_progress: OnProgress | None
    ) -> tuple[str, int]:
        limits = self._limits
        limit = limits.max_bytes or _free(path, limits.free_share)
        packed = response.headers.get("Content-Encoding", "").strip().lower() == "gzip"
        inflate = zlib.decompressobj(_GZIP) if packed else None
        total = 0 if packed else response.length or 0
        if total > limit:
            raise EnvironmentFault(
                f"cannot fetch {shown}: {total} bytes, there is room for {limit}"
            )
        digest, size = hashlib.sha256(), 0
        loop = asyncio.get_running_loop()
        shown_at = 0.0
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            try:
                async for data in response.chunks():
                    if inflate is not None:
                        data = _inflated(inflate, data, limit - size + 1, shown)
                    size += len(data)
                    if size > limit:
                        raise EnvironmentFault(
                            f"cannot fetch {shown}: it goes on after {limit} bytes"
                        )
                    digest.update(data)
                    file.write(data)
                    if on_progress is not None and loop.time() - shown_at >= _TELL_S:
                        shown_at = loop.time()
                        on_progress(size, total)
            except ConnectionLost as error:
                raise _CutBody(f"{error.message} after {size} bytes") from error
        if inflate is not None and not inflate.eof:
            raise _CutBody(f"the compressed file ends after {size} bytes")
        if on_progress is not None:
            on_progress(size, size)
        return digest.hexdigest(), size


def _inflated(inflate: Any, data: bytes, most: int, shown: str) -> bytes:
    try:
        return b"" if inflate.eof else bytes(inflate.decompress(data, max(most, 1)))
    except zlib.error as error:
        raise EnvironmentFault(f"cannot fetch {shown}: what is sent as gzip is none") from error


def _attached(disposition: str) -> str:
    """Return the file name in a header ``Content-Disposition``, without directories; "" for none."""
    if not disposition or len(disposition) > _MOST_HEADER:
        return ""
    from email.message import Message  # brings half of the email package

    message = Message()
    message["Content-Disposition"] = disposition.replace("\r", "").replace("\n", "")
    return (message.get_filename("") or "").rpartition("/")[2]


class _CutBody(ConnectionLost):
    """A file of which only the beginning came."""


def _target(url: str) -> URL:
    from yarl import URL

    try:
        target = URL(url, encoded="%" in url)
        if target.scheme not in ("http", "https") or not target.host:
            raise ValueError("no host")
        target.origin()
    except ValueError as error:
        raise UserError(f'invalid URL "{shown_url(url)}": {error}') from error
    return target


def _fault(shown: str, error: HttpFault) -> PybuildError:
    """Return the error for a file that cannot be had: of the Dockerfile where the server says so."""
    message = f"cannot fetch {shown}: {error.message}"
    match error:
        case BadRedirect():
            hints = ("name the URL at which the file is",)
            return UserError(message, hints=hints)
        case Untrusted():
            hints = ("its authority has to be among those that this machine trusts",)
            return error.saying(message).copy_with(hints=hints)
        case _:
            hint = "see whether the URL is spelt so, and whether this machine has a network"
            return error.saying(message).hinting(hint)


def _unchanged(response: Response, known: Validators | None) -> Fetched | None:
    """Return the answer for the *known* file, if the server says that it is still the same."""
    if known is None:
        return None
    etag = response.headers.get("ETag", "")[:1024]
    is_same = bool(known.etag) and _weak(etag) == _weak(known.etag)
    if response.status == 304 or (response.status == 200 and is_same):
        return Fetched(sha256="", size=0, etag=known.etag, last_modified=known.last_modified)
    return None


def _weak(etag: str) -> str:
    return etag.removeprefix("W/")


def _free(path: str, share: float) -> int:
    disk = os.statvfs(os.path.dirname(path))
    return int(disk.f_bavail * disk.f_frsize * share)
