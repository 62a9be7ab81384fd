"""A real server on loopback over a fresh store, and a client that hides nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from pybuild.cache.store import Store
from pybuild.model.clock import Clock
from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST
from pybuild.model.digest import Digest
from pybuild.registry.client.client import Client
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.serving import listening
from pybuild.registry.server.settings import RegistrySettings
from tests.registry.conftest import QUICK
from tests.registry.fakes import WallClock

EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer, read to the end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The specification's code of a refusal."""
        return str(json.loads(self.body)["errors"][0]["code"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Served:
    """A server, its store, and requests to it.

    Attributes:
        host: ``127.0.0.1:<port>``.
        hosting: of a server in this process.
    """

    host: str
    store: Store
    session: aiohttp.ClientSession
    hosting: Hosting | None = None

    async def ask(
        self,
        method: str,
        path: str,
        data: Any = None,
        headers: dict[str, str] | None = None,
        **params: str,
    ) -> Answer:
        """Send one request and read its answer; *path* may have a query."""
        async with self.session.request(
            method,
            f"http://{self.host}{path}",
            data=data,
            headers=headers,
            params=params or None,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as response:
            body = await response.read()
            return Answer(response.status, dict(response.headers), body)

    async def push_blob(self, name: str, data: bytes) -> Digest:
        digest = Digest.of(data)
        answer = await self.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data)
        assert answer.status == 201, answer
        return digest

    async def put(
        self, name: str, reference: str, document: dict[str, Any], **params: str
    ) -> Answer:
        headers = {"Content-Type": document["mediaType"]}
        path = f"/v2/{name}/manifests/{reference}"
        return await self.ask("PUT", path, encoded(document), headers, **params)

    async def push_image(self, name: str, tag: str, layer: bytes = b"layer") -> Digest:
        """Push an image of one layer and return its manifest's digest."""
        document = image(await self.push_blob(name, EMPTY), [await self.push_blob(name, layer)])
        document["layers"][0]["size"] = len(layer)
        answer = await self.put(name, tag, document)
        assert answer.status == 201, answer
        return Digest.of(encoded(document))


@asynccontextmanager
async def served(
    root: Path, settings: RegistrySettings | None = None, clock: Clock | None = None
) -> AsyncGenerator[Served]:
    """Serve the store at *root*."""
    with Store.open(root, clock or WallClock()) as store:
        async with served_from(store, settings) as one:
            yield one


@asynccontextmanager
async def served_from(
    store: Store, settings: RegistrySettings | None = None
) -> AsyncGenerator[Served]:
    """Serve an open store."""
    async with Client(clock=WallClock(), limits=QUICK) as client:
        hosting = Hosting(store, settings or RegistrySettings(grace_s=0.2), client)
        async with (
            listening(hosting, ["127.0.0.1:0"]) as [host],
            aiohttp.ClientSession() as session,
        ):
            yield Served(host, store, session, hosting)


def encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def image(config: Digest, layers: list[Digest], **more: Any) -> dict[str, Any]:
    """A manifest; its layers say to have as many bytes as ``layer``."""
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config, len(EMPTY)),
        "layers": [
            descriptor("application/vnd.oci.image.layer.v1.tar", layer, len(b"layer"))
            for layer in layers
        ],
        **more,
    }


def index(manifests: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **more}


def descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The descriptor of a document."""
    data = encoded(document)
    return descriptor(document["mediaType"], Digest.of(data), len(data))


def sha512(data: bytes) -> str:
    return "sha512:" + hashlib.sha512(data).hexdigest()
