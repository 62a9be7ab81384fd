"""GitHub's Actions cache as a client sees it: entries that are written once, found by their keys [CCH-4].

The second version of the protocol hands out signed URLs of a blob store, Azure's; the first one, which
Forgejo, Gitea and act speak, takes the bytes itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault
from pybuild.model.jsontext import as_object
from pybuild.net.http1.client import Response, Wire, origin_of
from pybuild.net.http1.faults import ConnectionLost, HttpFault
from pybuild.net.http1.proxies import proxy_for
from pybuild.net.http1.redirects import follow
from pybuild.net.http1.retries import HttpLimits, Retries
from pybuild.remotecache.places.fileparts import part_of
from pybuild.remotecache.places.ghaoptions import GhaPlace

ENTRY_VERSION = hashlib.sha256(b"|go-actionscache-1.0").hexdigest()
"""The version of entries that BuildKit's are written and found with: so each finds the other's."""
_TWIRP = "/twirp/github.actions.results.api.v1.CacheService/"
_FIRST = "/_apis/artifactcache/"
_FIRST_ACCEPT = "application/json;api-version=6.0-preview.1"
_AZURE = {"x-ms-version": "2021-08-06"}
_ANSWER_BYTES = 32 << 10
PART_BYTES = 32 << 20
_AT_ONCE = 4
_TRIES = 4
_GONE = (401, 403)  # a signed URL that has expired

Progress = Callable[[int], None]


class GhaFault(EnvironmentFault):
    """The service did not do as requested; *status* is HTTP's, 0 without an answer."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hints=[hint] if hint else [])
        self.status = status


@dataclass(frozen=True, slots=True)
class GhaEntry:
    """An entry: the whole key that it was written by, and the URL that its bytes are at, for a time."""

    key: str
    url: str


@dataclass(frozen=True, slots=True)
class GhaReservation:
    """A key that is ours to write: a signed URL, or the number of the entry to be."""

    key: str
    where: str


class GhaService:
    """One service with one token. Close it."""

    def __init__(self, place: GhaPlace, environ: Mapping[str, str] = os.environ) -> None:
        limits = HttpLimits(
            attempts=6, idle_bytes=1024, retry_after_most_s=min(60.0, place.patience_s)
        )
        self._place = place
        self._environ = environ
        self._wire = Wire(limits.connect_s, limits.idle_s, limits.idle_bytes)
        self._retries = Retries(limits)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._wire.close()

    async def find(self, prefix: str) -> GhaEntry | None:
        """Return the newest entry whose key starts so; None if there is none."""
        if self._place.is_second:
            body = {"key": prefix, "restore_keys": [prefix], "version": ENTRY_VERSION}
            answer = await self._call("GetCacheEntryDownloadURL", body)
            if not answer.get("ok"):
                return None
            matched, url = answer.get("matched_key"), answer.get("signed_download_url")
        else:
            query = f"cache?keys={quote(prefix, safe='')}&version={ENTRY_VERSION}"
            answer = await self._first("GET", query, None)
            matched, url = answer.get("cacheKey"), answer.get("archiveLocation")
        if not matched:
            return None
        if not isinstance(matched, str) or not matched.startswith(prefix):
            return None  # of a service that matches otherwise than it should
        if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
            raise GhaFault(f"look up {prefix}: the service gives no URL to read from")
        return GhaEntry(matched, url)

    async def reserve(self, key: str) -> GhaReservation | None:
        """Return the right to write *key*; None if somebody has it, or had."""
        body = {"key": key, "version": ENTRY_VERSION}
        try:
            if self._place.is_second:
                answer = await self._call("CreateCacheEntry", body)
                where = answer.get("signed_upload_url") if answer.get("ok") else None
            else:
                answer = await self._first("POST", "caches", body)
                where = answer.get("cacheId", answer.get("cacheID"))
        except _Exists:
            return None
        if not where:
            raise GhaFault(f"reserve {key}: the service gives no place to write to")
        return GhaReservation(key, str(where))

    async def write(
        self, reserved: GhaReservation, source: str | bytes, size: int, progress: Progress
    ) -> None:
        """Write a whole entry and let it be found.

        Args:
            source: the path of a file, or the bytes.
        """
        send = self._put_blocks if self._place.is_second else self._patch
        await send(reserved, source, size, progress)
        if self._place.is_second:
            body = {"key": reserved.key, "size_bytes": str(size), "version": ENTRY_VERSION}
            answer = await self._call("FinalizeCacheEntryUpload", body)
            if not answer.get("ok"):
                raise GhaFault(f"write {reserved.key}: the service did not take it")
        else:
            await self._first("POST", f"caches/{reserved.where}", {"size": size})

    async def read(self, entry: GhaEntry, limit: int) -> bytes:
        """Return a small entry's bytes.

        Raises:
            GhaFault: it has more than *limit*, or cannot be had.
        """
        data = bytearray()
        async for piece in self.pieces(entry, limit + 1, whole=False):
            data += piece
        if len(data) > limit:
            raise GhaFault(f"read {entry.key}: more than {limit} bytes")
        return bytes(data)

    async def pieces(
        self, entry: GhaEntry, size: int, *, whole: bool = True
    ) -> AsyncIterator[bytes]:
        """Yield *size* bytes at most, where they are *whole* no fewer; goes on where a connection breaks."""
        offset = failures = 0
        while offset < size:
            before = offset
            try:
                response = await self._open(entry, offset)
                try:
                    async for data in response.chunks():
                        data = data[: size - offset]
                        offset += len(data)
                        if data:
                            yield data
                        if offset == size:
                            return
                finally:
                    response.close()
            except ConnectionLost as error:
                failures = 0 if offset > before else failures + 1
                if failures >= _TRIES:
                    raise _fault(f"read {entry.key}", error) from error
                continue
            except HttpFault as error:
                raise _fault(f"read {entry.key}", error) from error
            except GhaFault as fault:
                renewed = await self.find(entry.key) if fault.status in _GONE else None
                failures += 1
                if renewed is None or failures >= _TRIES:
                    raise
                entry = renewed
                continue
            if whole:
                raise GhaFault(f"read {entry.key}: {offset} of {size} bytes")
            return

    async def _open(self, entry: GhaEntry, offset: int) -> Response:
        from yarl import URL

        headers = {"Range": f"bytes={offset}-"} if offset else {}
        target = URL(entry.url, encoded=True)

        async def once() -> Response:
            ask = partial(self._ask, "GET", headers=headers)
            return (await follow(lambda url, _: ask(url), target, origin_of(target), "GET"))[0]

        response = await self._retries.send(target.authority, once)
        expected = 206 if offset else 200
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if response.status != expected or (offset and not begins):
            response.close()
            raise GhaFault(f"read {entry.key}: status {response.status}", status=response.status)
        return response

    async def _put_blocks(
        self, reserved: GhaReservation, source: str | bytes, size: int, progress: Progress
    ) -> None:
        """Write a blob of Azure's store: at once, or block by block and then the list of them."""
        action = f"write {reserved.key}"
        if size <= PART_BYTES:
            headers = {**_AZURE, "x-ms-blob-type": "BlockBlob"}
            await self._part("PUT", reserved.where, headers, source, (0, size), action)
            progress(size)
            return
        names = [
            base64.b64encode(b"%08d" % number).decode() for number in range(-(-size // PART_BYTES))
        ]
        sent = 0

        async def block(number: int, name: str) -> None:
            nonlocal sent
            start = number * PART_BYTES
            length = min(PART_BYTES, size - start)
            url = f"{reserved.where}&comp=block&blockid={quote(name, safe='')}"
            async with self._places:
                await self._part("PUT", url, _AZURE, source, (start, length), action)
            sent += length
            progress(sent)

        async with asyncio.TaskGroup() as group:
            for number, name in enumerate(names):
                group.create_task(block(number, name))
        listed = "".join(f"<Latest>{name}</Latest>" for name in names)
        document = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        url = f"{reserved.where}&comp=blocklist"
        await self._part("PUT", url, _AZURE, document, (0, len(document)), action)

    async def _patch(
        self, reserved: GhaReservation, source: str | bytes, size: int, progress: Progress
    ) -> None:
        url = f"{self._place.url}{_FIRST}caches/{reserved.where}"
        for start in range(0, size, PART_BYTES):
            length = min(PART_BYTES, size - start)
            headers = {
                **self._authorization,
                "Accept": _FIRST_ACCEPT,
                "Content-Type": "application/octet-stream",
                "Content-Range": f"bytes {start}-{start + length - 1}/*",
            }
            action = f"write {reserved.key}"
            await self._part("PATCH", url, headers, source, (start, length), action)
            progress(start + length)

    async def _part(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        source: str | bytes,
        part: tuple[int, int],
        action: str,
    ) -> None:
        from yarl import URL

        url = URL(address, encoded=True)

        async def once() -> Response:
            body = part_of(source, *part)
            return await self._ask(method, url, headers=headers, body=body, length=part[1])

        try:
            response = await self._retries.send(url.authority, once)
        except HttpFault as error:
            raise _fault(action, error) from error
        response.close()
        if not 200 <= response.status < 300:
            raise GhaFault(f"{action}: status {response.status}", status=response.status)

    async def _call(self, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call a method of the second protocol; its answer says whether it was ``ok``."""
        return await self._json("POST", self._place.url + _TWIRP + method, body, {})

    async def _first(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        headers = {"Accept": _FIRST_ACCEPT}
        return await self._json(method, self._place.url + _FIRST + path, body, headers)

    async def _json(
        self, method: str, address: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Mapping[str, Any]:
        from yarl import URL

        action = f"ask the Actions cache for {urlsplit(address).path.rpartition('/')[2]}"
        url = URL(address, encoded=True)
        data = b"" if body is None else json.dumps(body).encode()
        headers = {**headers, **self._authorization, "Content-Type": "application/json"}

        async def once() -> Response:
            sent = None if body is None else part_of(data, 0, len(data))
            return await self._ask(method, url, headers=headers, body=sent, length=len(data))

        try:
            response = await self._retries.send(url.authority, once)
            try:
                if response.status >= 400:
                    raise _refusal(action, response)
                text = await response.read(_ANSWER_BYTES)
            finally:
                response.close()
        except HttpFault as error:
            raise _fault(action, error) from error
        try:
            return as_object(json.loads(text)) if text.strip() else {}
        except ValueError as error:
            raise GhaFault(f"{action}: the answer is no JSON") from error

    async def _ask(
        self,
        method: str,
        url: Any,
        *,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None = None,
        length: int = 0,
    ) -> Response:
        proxy = proxy_for(url.scheme, url.host or "", url.port or 0, self._environ)
        return await self._wire.send(method, url, headers, proxy=proxy, body=body, length=length)

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._place.token}"}


class _Exists(GhaFault):
    """The key is taken: entries are written once."""


def _refusal(action: str, response: Response) -> GhaFault:
    try:
        answer = as_object(json.loads(response.body.removeprefix(b"\xef\xbb\xbf")))
    except ValueError:
        answer = {}
    code = str(answer.get("code") or answer.get("typeKey") or "")
    text = str(answer.get("msg") or answer.get("message") or code)[:300]
    status = response.status
    if status == 409 or "already" in code.lower() or "already exists" in text.lower():
        return _Exists(f"{action}: {text}", status=status)
    hint = "the token of the job may have expired, or not have the right" if status in _GONE else ""
    return GhaFault(f"{action}: {text or f'status {status}'}", status=status, hint=hint)


def _fault(action: str, error: HttpFault) -> GhaFault:
    return GhaFault(f"{action}: {error.message}", status=error.status)
