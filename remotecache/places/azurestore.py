"""A container of Azure's blob store: blobs read, and written under conditions, signed with the account's key.

The rules of the signature are those of "Authorize with Shared Key" for the blob service, version 2015-02-21
and later.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault
from pybuild.net.http1.client import Response, Wire
from pybuild.net.http1.faults import ConnectionLost, HttpFault
from pybuild.net.http1.proxies import proxy_for
from pybuild.net.http1.retries import HttpLimits, Retries
from pybuild.remotecache.places.azureoptions import AzurePlace
from pybuild.remotecache.places.fileparts import part_of

_VERSION = "2021-08-06"
_SIGNED = ("Content-Encoding", "Content-Language", "Content-Length", "Content-MD5") + (
    *("Content-Type", "Date", "If-Modified-Since", "If-Match"),
    *("If-None-Match", "If-Unmodified-Since", "Range"),
)
_SAFE = "/:@-._~"
PART_BYTES = 32 << 20
_AT_ONCE = 4
_TRIES = 4

Progress = Callable[[int], None]


class AzureFault(EnvironmentFault):
    """The service did not do as requested; *status* is HTTP's, 0 without an answer; *code* its own word."""

    def __init__(self, message: str, *, status: int = 0, code: str = "", hint: str = "") -> None:
        super().__init__(message, hints=[hint] if hint else [])
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class AzureBlob:
    """A blob without its bytes."""

    size: int
    etag: str


class AzureContainer:
    """One container with one key. Close it."""

    def __init__(
        self,
        place: AzurePlace,
        environ: Mapping[str, str] = os.environ,
        now: Callable[[], float] = time.time,
    ) -> None:
        limits = HttpLimits(attempts=6, idle_bytes=1024)
        self._place = place
        self._environ = environ
        self._now = now
        self._wire = Wire(limits.connect_s, limits.idle_s, limits.idle_bytes)
        self._retries = Retries(limits)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._wire.close()

    async def head(self, name: str) -> AzureBlob | None:
        """Return a blob without its bytes; None if there is none."""
        response = await self._send("HEAD", name)
        response.close()
        if response.status == 404:
            return None
        if response.status != 200:
            raise _refused(f"look at {name}", response)
        size = response.headers.get("Content-Length", "")
        return AzureBlob(int(size) if size.isdecimal() else -1, response.headers.get("ETag", ""))

    async def get(self, name: str, limit: int) -> tuple[bytes, str] | None:
        """Return a small blob's bytes and its etag; None if there is none.

        Raises:
            AzureFault: it cannot be had, or has more than *limit* bytes.
        """
        action = f"read {name}"
        response = await self._send("GET", name)
        try:
            if response.status == 404:
                return None
            if response.status != 200:
                raise _refused(action, response)
            data = bytearray()
            async for piece in response.chunks():
                data += piece
                if len(data) > limit:
                    raise AzureFault(f"{action}: more than {limit} bytes")
            return bytes(data), response.headers.get("ETag", "")
        except HttpFault as error:
            raise _fault(action, error) from error
        finally:
            response.close()

    async def pieces(self, name: str, size: int) -> AsyncIterator[bytes]:
        """Yield a blob's bytes, *size* of them; goes on where a connection breaks."""
        action = f"read {name}"
        offset = failures = 0
        while offset < size:
            before = offset
            headers = {"x-ms-range": f"bytes={offset}-"} if offset else {}
            try:
                response = await self._send("GET", name, headers=headers)
                try:
                    if response.status != (206 if offset else 200):
                        raise _refused(action, response)
                    async for data in response.chunks():
                        data = data[: size - offset]
                        offset += len(data)
                        if data:
                            yield data
                finally:
                    response.close()
            except ConnectionLost as error:
                failures = 0 if offset > before else failures + 1
                if failures >= _TRIES:
                    raise _fault(action, error) from error
                continue
            except HttpFault as error:
                raise _fault(action, error) from error
            if offset < size:
                raise AzureFault(f"{action}: {offset} of {size} bytes")

    async def put(self, name: str, data: bytes, etag: str | None) -> str | None:
        """Write a small blob; return its etag, or None if *etag* is not that of the present one.

        Args:
            etag: empty: there must be none; None: whatever there is.
        """
        headers = {"x-ms-blob-type": "BlockBlob"}
        if etag is not None:
            headers |= {"If-Match": etag} if etag else {"If-None-Match": "*"}
        action = f"write {name}"
        response = await self._send("PUT", name, headers=headers, source=data, part=(0, len(data)))
        response.close()
        if response.status in (409, 412) and etag is not None:
            return None
        if response.status != 201:
            raise _refused(action, response)
        return response.headers.get("ETag", "")

    async def put_file(self, name: str, path: str, size: int, progress: Progress) -> None:
        """Write a blob: at once, or block by block and then the list of them."""
        action = f"write {name}"
        if size <= PART_BYTES:
            headers = {"x-ms-blob-type": "BlockBlob"}
            await self._part(name, "", headers, path, (0, size), action)
            progress(size)
            return
        ids = [base64.b64encode(b"%08d" % at).decode() for at in range(-(-size // PART_BYTES))]
        sent = 0

        async def block(number: int, id: str) -> None:
            nonlocal sent
            start = number * PART_BYTES
            length = min(PART_BYTES, size - start)
            async with self._places:
                query = f"?comp=block&blockid={quote(id, safe='')}"
                await self._part(name, query, {}, path, (start, length), action)
            sent += length
            progress(sent)

        async with asyncio.TaskGroup() as group:
            for number, id in enumerate(ids):
                group.create_task(block(number, id))
        listed = "".join(f"<Latest>{id}</Latest>" for id in ids)
        document = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        await self._part(name, "?comp=blocklist", {}, document, (0, len(document)), action)

    async def create(self) -> None:
        """Make the container, unless it is there."""
        response = await self._send("PUT", "", "?restype=container")
        response.close()
        if response.status not in (201, 409):
            raise _refused(f"create container {self._place.container}", response)

    async def _part(
        self,
        name: str,
        query: str,
        headers: Mapping[str, str],
        source: str | bytes,
        part: tuple[int, int],
        action: str,
    ) -> None:
        response = await self._send("PUT", name, query, headers, source, part)
        response.close()
        if response.status != 201:
            raise _refused(action, response)

    async def _send(
        self,
        method: str,
        name: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        source: str | bytes = b"",
        part: tuple[int, int] = (0, 0),
    ) -> Response:
        from yarl import URL

        path = f"/{self._place.container}" + (f"/{quote(name, safe=_SAFE)}" if name else "")
        url = URL(self._place.url + path + query, encoded=True)

        async def once() -> Response:
            sent = {**(headers or {}), "x-ms-date": formatdate(self._now(), usegmt=True)}
            sent["x-ms-version"] = _VERSION
            body, length = None, 0
            if method == "PUT":
                body, length = part_of(source, *part), part[1]
            if self._place.secret:
                sent["Authorization"] = authorization(
                    self._place, method, str(url), {**sent, "Content-Length": str(length)}
                )
            proxy = proxy_for(url.scheme, url.host or "", url.port or 0, self._environ)
            return await self._wire.send(method, url, sent, proxy=proxy, body=body, length=length)

        try:
            return await self._retries.send(url.authority, once)
        except HttpFault as error:
            raise _fault(f"{method} {name or self._place.container}", error) from error


def authorization(place: AzurePlace, method: str, url: str, headers: Mapping[str, str]) -> str:
    """Return the header that signs a request with the account's key."""
    parts = urlsplit(url)
    given = {name.lower(): value for name, value in headers.items()}
    if given.get("content-length") == "0":
        given["content-length"] = ""
    lines = [method, *(given.get(name.lower(), "") for name in _SIGNED)]
    lines += [f"{name}:{given[name]}" for name in sorted(given) if name.startswith("x-ms-")]
    resource = f"/{place.account}{parts.path}"
    for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True)):
        resource += f"\n{name.lower()}:{value}"
    text = "\n".join([*lines, resource])
    made = hmac.new(place.secret, text.encode(), hashlib.sha256).digest()
    return f"SharedKey {place.account}:{base64.b64encode(made).decode()}"


def _refused(action: str, response: Response) -> AzureFault:
    code = response.headers.get("x-ms-error-code", "")
    hint = ""
    if response.status in (401, 403):
        hint = "give the account's key: secret_access_key=… or AZURE_STORAGE_KEY"
    status = response.status
    return AzureFault(
        f"{action}: {code or f'status {status}'}", status=status, code=code, hint=hint
    )


def _fault(action: str, error: HttpFault) -> AzureFault:
    status: Any = error.status
    return AzureFault(f"{action}: {error.message}", status=status or 0)
