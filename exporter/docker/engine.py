"""A Docker engine on this machine, as a place that images are loaded into [OUT-4].

The engine is given an archive without the layers that it has. It looks a layer up by the diffIDs below
it before it opens the layer's file, so what it knows need not be in the archive. An engine that does
want them says so, and gets the whole archive then.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from pybuild.exporter.docker.address import Address
from pybuild.model.errors import EnvironmentFault
from pybuild.net.http1.client import Wire
from pybuild.net.http1.faults import HttpFault
from pybuild.net.http1.tlsfiles import KeyPair, Tls

if TYPE_CHECKING:
    from pybuild.net.http1.client import Response

_PING_SECONDS = 2.0
_ASK_SECONDS = 30.0
_LOAD_SECONDS = 3600.0
_MOST_IMAGES = 512  # that are asked for their layers
_AT_ONCE = 8
_LIMIT_BYTES = 64 << 20


class EngineRefused(EnvironmentFault):
    """The engine is there, and says no."""


class DockerEngine:
    """One engine; an async context manager."""

    def __init__(self, address: Address) -> None:
        self.address = address
        url = urlsplit(address.url)
        self._socket = url.path if url.scheme == "unix" else ""
        self._tls = _tls(address.certificates)
        scheme = "https" if address.certificates else "http"
        self._base = "http://docker" if self._socket else f"{scheme}://{url.netloc}"
        self._wire = Wire(_ASK_SECONDS, _ASK_SECONDS, idle_bytes=1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._wire.close()

    async def answers(self) -> bool:
        """Whether somebody is there."""
        try:
            await self._get("/_ping", _PING_SECONDS)
        except EnvironmentFault:
            return False
        return True

    async def tags_of(self, image_id: str) -> list[str] | None:
        """The names that the engine has for an image, by the digest of its config; None: not there."""
        try:
            data = await self._get(f"/images/{image_id}/json", _ASK_SECONDS)
        except EngineRefused:
            return None
        return list(json.loads(data).get("RepoTags") or [])

    async def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image that is there one more name."""
        query = f"repo={quote(repository, safe='')}&tag={quote(tag, safe='')}"
        await self._ask("POST", f"/images/{image_id}/tag?{query}", _ASK_SECONDS, 201)

    async def known_layers(self, diff_ids: Sequence[str]) -> int:
        """The number of *diff_ids*, from the base on, that the engine has as layers of some image."""
        listed: list[dict[str, Any]] = json.loads(await self._get("/images/json", _ASK_SECONDS))
        slots = asyncio.Semaphore(_AT_ONCE)

        async def common(image: str) -> int:
            async with slots:
                try:
                    data = await self._get(f"/images/{quote(image, safe=':')}/json", _ASK_SECONDS)
                except EngineRefused:
                    return 0  # deleted meanwhile
            rootfs: dict[str, Any] = json.loads(data).get("RootFS") or {}
            layers: list[str] = rootfs.get("Layers") or []
            count = 0
            for ours, theirs in zip(diff_ids, layers, strict=False):
                if ours != theirs:
                    break
                count += 1
            return count

        images = [str(image["Id"]) for image in listed[:_MOST_IMAGES]]
        return max(await asyncio.gather(*(common(image) for image in images)), default=0)

    async def load(self, archive: AsyncIterator[bytes]) -> list[str]:
        """Give the engine an archive; return the lines of its answer.

        Raises:
            EnvironmentFault: it refuses, or cannot be reached.
        """
        status, data = await self._send(
            "POST",
            "/images/load?quiet=1",
            _LOAD_SECONDS,
            {"Content-Type": "application/x-tar"},
            archive,
        )
        lines: list[str] = []
        for line in filter(None, data.decode(errors="replace").splitlines()):
            message = _object(line)
            problem = message.get("error") or (message.get("message") if status >= 400 else "")
            if problem:
                raise self._fault(str(problem))
            if isinstance(message.get("stream"), str):
                lines.append(message["stream"].strip())
        if status >= 400:
            raise self._fault(f"status {status}")
        return lines

    async def _get(self, path: str, seconds: float) -> bytes:
        return await self._ask("GET", path, seconds, 200)

    async def _ask(self, method: str, path: str, seconds: float, expected: int) -> bytes:
        status, data = await self._send(method, path, seconds)
        if status != expected:
            message = _object(data.decode(errors="replace")).get("message")
            raise EngineRefused(self._fault(str(message or f"status {status}")).message)
        return data

    async def _send(
        self,
        method: str,
        path: str,
        seconds: float,
        headers: dict[str, str] | None = None,
        body: AsyncIterator[bytes] | None = None,
    ) -> tuple[int, bytes]:
        """Return the status and all of an answer, for which there are *seconds*."""
        from yarl import URL

        response: Response | None = None
        try:
            async with asyncio.timeout(seconds):
                response = await self._wire.send(
                    method,
                    URL(self._base + path, encoded=True),
                    headers or {},
                    tls=self._tls,
                    socket=self._socket,
                    body=body,
                    length=None if body is not None else 0,
                    idle_s=seconds,
                )
                if response.status >= 400:
                    return response.status, response.body
                return response.status, await response.read(_LIMIT_BYTES)
        except HttpFault as error:
            raise self._fault(error.message) from error
        except TimeoutError as error:
            raise self._fault(f"no answer for {seconds:g} s") from error
        finally:
            if response is not None:
                response.close()

    def _fault(self, problem: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"Docker engine at {self.address.url}: {problem}",
            hints=["is it running, and may you use it? docker version says more"],
        )


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _tls(directory: str) -> Tls:
    """The certificates of both sides, ``ca.pem``, ``cert.pem`` and ``key.pem``, as docker has them."""
    if not directory:
        return Tls()
    ca, cert, key = (os.path.join(directory, name) for name in ("ca.pem", "cert.pem", "key.pem"))
    pairs = (KeyPair(cert, key),) if os.path.exists(cert) else ()
    return Tls(ca=(ca,), keypairs=pairs, only=True)
