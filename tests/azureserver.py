"""Azure's blob store for tests: Azurite where it is installed, else a double that checks signatures by itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from tests.webservers import serving

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and the key that every Azurite has."""
_WORDS = ("content-encoding", "content-language", "content-length", "content-md5", "content-type")
_CONDITIONS = ("date", "if-modified-since", "if-match", "if-none-match", "if-unmodified-since")


def attrs(url: str, more: str = "") -> str:
    return f"type=azblob,account_url={url},account_name={ACCOUNT},secret_access_key={KEY}{more}"


@dataclass
class BlobStore:
    """The double.

    Attributes:
        blobs: by container and name.
        refused: requests whose signatures were wrong.
    """

    containers: set[str] = field(default_factory=set[str])
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    blocks: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    refused: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Authorization") != _signature(request):
            self.refused += 1
            return _error(403, "AuthenticationFailed")
        name = unquote(request.raw_path.partition("?")[0]).removeprefix(f"/{ACCOUNT}/")
        container = name.partition("/")[0]
        if request.query.get("restype") == "container":
            known = container in self.containers
            self.containers.add(container)
            return _error(409, "ContainerAlreadyExists") if known else web.Response(status=201)
        if container not in self.containers:
            return _error(404, "ContainerNotFound")
        if request.method == "PUT":
            return self._put(request, name, body)
        if name not in self.blobs:
            return _error(404, "BlobNotFound")
        start = request.headers.get("x-ms-range", "bytes=0-").removeprefix("bytes=").rstrip("-")
        data = self.blobs[name][int(start) :]
        headers = {"ETag": _etag(self.blobs[name])}
        return web.Response(status=206 if int(start) else 200, body=data, headers=headers)

    def _put(self, request: web.Request, name: str, body: bytes) -> web.Response:
        comp = request.query.get("comp")
        if comp == "block":
            self.blocks.setdefault(name, {})[request.query["blockid"]] = body
            return web.Response(status=201)
        present = self.blobs.get(name)
        wanted = request.headers.get("If-Match")
        if wanted and (present is None or wanted != _etag(present)):
            return _error(412, "ConditionNotMet")
        if request.headers.get("If-None-Match") == "*" and present is not None:
            return _error(409, "BlobAlreadyExists")
        if comp == "blocklist":
            ids = [part.partition("<")[0] for part in body.decode().split("<Latest>")[1:]]
            body = b"".join(self.blocks[name][id] for id in ids)
        self.blobs[name] = body
        return web.Response(status=201, headers={"ETag": _etag(body)})


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, headers={"x-ms-error-code": code})


def _signature(request: web.Request) -> str:
    """Return the header that the request must have, by the rules of Shared Key."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    values = [headers.get(word, "") for word in _WORDS]
    values[2] = "" if values[2] == "0" else values[2]
    values += [headers.get(word, "") for word in (*_CONDITIONS, "range")]
    own = "".join(f"{n}:{v}\n" for n, v in sorted(headers.items()) if n.startswith("x-ms-"))
    resource = f"/{ACCOUNT}{request.raw_path.partition('?')[0]}"
    resource += "".join(f"\n{n}:{v}" for n, v in sorted(request.query.items()))
    text = "\n".join([request.method, *values, own + resource])
    key = base64.b64decode(KEY)
    made = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
    return f"SharedKey {ACCOUNT}:{made}"


@contextmanager
def blob_store() -> Generator[tuple[str, BlobStore]]:
    """Run the double; gives the account's URL."""
    store = BlobStore()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", store.answer)
    with serving(application) as url:
        yield f"{url}/{ACCOUNT}", store


@contextmanager
def azurite(where: Path) -> Generator[str]:
    """Run Azurite; gives the account's URL."""
    program = shutil.which("azurite-blob")
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = [program, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    words += ["--location", str(where), "--blobPort", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        process.terminate()
        process.wait(60)
