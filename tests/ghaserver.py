"""A server that speaks the protocols of GitHub's Actions cache and of the blob store behind it, on loopback."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import urllib.parse
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree

_TWIRP = "/twirp/github.actions.results.api.v1.CacheService/"
_FIRST = "/_apis/artifactcache/"


def job_token(*scopes: tuple[str, int], expires: int = 4_000_000_000) -> str:
    """Return a token as jobs have it: branches with 1 to read, 2 to write; signed by nobody."""
    claims = {
        "ac": json.dumps([{"Scope": scope, "Permission": rights} for scope, rights in scopes]),
        "exp": expires,
        "nbf": 1,
    }
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "RS256", "typ": "JWT"}, claims)
    ]
    return ".".join([*parts, "c2ln"])


@dataclass
class Entry:
    """An entry of the cache: reserved, filled block by block, and found when it is whole."""

    key: str
    version: str
    number: int
    is_whole: bool = False
    data: bytes = b""
    blocks: dict[str, bytes] = field(default_factory=dict[str, bytes])


@dataclass
class ActionsCache:
    """The state of one service.

    Attributes:
        tokens: that it takes.
        refuse: statuses to answer the next requests with, oldest first, with their ``Retry-After``.
        cut: the bytes after which the next downloads break off.
        requests: methods and paths, without signatures.
        signature: of all URLs that are valid now; another one makes those given out expire.
    """

    port: int
    tokens: set[str] = field(default_factory=set[str])
    entries: list[Entry] = field(default_factory=list[Entry])
    refuse: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    cut: list[int] = field(default_factory=list[int])
    requests: list[str] = field(default_factory=list[str])
    signature: str = field(default_factory=lambda: secrets.token_hex(8))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def keys(self) -> list[str]:
        """Return the keys of whole entries, oldest first."""
        return [one.key for one in self.entries if one.is_whole]

    def reserve(self, key: str, version: str) -> Entry | None:
        with self.lock:
            if any(one.key == key and one.version == version for one in self.entries):
                return None
            entry = Entry(key, version, len(self.entries) + 1)
            self.entries.append(entry)
            return entry

    def find(self, prefixes: list[str], version: str) -> Entry | None:
        for prefix in prefixes:
            for one in reversed(self.entries):
                if one.is_whole and one.version == version and one.key.startswith(prefix):
                    return one
        return None

    def signed(self, entry: Entry) -> str:
        return f"{self.url}/blob/{entry.number}?sv=2025&sig={self.signature}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cache: ActionsCache

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        body = self._body()
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        cache = self.cache
        with cache.lock:
            cache.requests.append(f"{method} {parts.path}")
            refusal = cache.refuse.pop(0) if cache.refuse else None
        if refusal is not None:
            self._send(refusal[0], {"message": "too much"}, {"Retry-After": refusal[1]})
        elif parts.path.startswith("/blob/"):
            if query.get("sig") != cache.signature:
                self._send(403, {"message": "the signature has expired"})
            else:
                entry = cache.entries[int(parts.path.rpartition("/")[2]) - 1]
                self._blob(method, entry, query, body)
        elif self.headers.get("Authorization", "").removeprefix("Bearer ") not in cache.tokens:
            self._send(401, {"code": "unauthenticated", "msg": "no such token"})
        elif parts.path.startswith(_TWIRP):
            self._twirp(parts.path.removeprefix(_TWIRP), json.loads(body))
        elif parts.path.startswith(_FIRST):
            self._first(method, parts.path.removeprefix(_FIRST), query, body)
        else:
            self._send(404, {"message": "no such path"})

    def _twirp(self, method: str, asked_for: dict[str, Any]) -> None:
        cache = self.cache
        if method == "CreateCacheEntry":
            entry = cache.reserve(asked_for["key"], asked_for["version"])
            if entry is None:
                self._send(409, {"code": "already_exists", "msg": "cache entry already exists"})
            else:
                self._send(200, {"ok": True, "signed_upload_url": cache.signed(entry)})
        elif method == "FinalizeCacheEntryUpload":
            entry = next(one for one in cache.entries if one.key == asked_for["key"])
            entry.is_whole = int(asked_for["size_bytes"]) == len(entry.data)
            self._send(200, {"ok": entry.is_whole, "entry_id": str(entry.number)})
        else:
            prefixes = [asked_for["key"], *asked_for["restore_keys"]]
            hit = cache.find(prefixes, asked_for["version"])
            if hit is None:
                self._send(200, {"ok": False})
            else:
                shown = {"matched_key": hit.key, "signed_download_url": cache.signed(hit)}
                self._send(200, {"ok": True, **shown})

    def _first(self, method: str, path: str, query: dict[str, str], body: bytes) -> None:
        cache = self.cache
        if path == "cache":
            hit = cache.find(query["keys"].split(","), query["version"])
            if hit is None:
                self._send(204, None)
            else:
                shown = {"cacheKey": hit.key, "archiveLocation": cache.signed(hit)}
                self._send(200, {"result": "hit", **shown})
        elif path == "caches":
            wish = json.loads(body)
            entry = cache.reserve(wish["key"], wish["version"])
            if entry is None:
                self._send(409, {"typeKey": "ArtifactCacheItemAlreadyExistsException"})
            else:
                self._send(201, {"cacheId": entry.number})
        else:
            entry = cache.entries[int(path.rpartition("/")[2]) - 1]
            if method == "PATCH":
                first = self.headers["Content-Range"].removeprefix("bytes ").partition("-")[0]
                entry.blocks[f"{int(first):016}"] = body
                self._send(204, None)
            else:
                entry.data = b"".join(entry.blocks[start] for start in sorted(entry.blocks))
                entry.is_whole = json.loads(body)["size"] == len(entry.data)
                self._send(204 if entry.is_whole else 400, None)

    def _blob(self, method: str, entry: Entry, query: dict[str, str], body: bytes) -> None:
        if method == "GET":
            self._download(entry.data)
        elif query.get("comp") == "block":
            entry.blocks[query["blockid"]] = body
            self._send(201, None)
        elif query.get("comp") == "blocklist":
            named = [one.text or "" for one in ElementTree.fromstring(body)]
            entry.data = b"".join(entry.blocks[name] for name in named)
            self._send(201, None)
        elif self.headers.get("x-ms-blob-type") == "BlockBlob":
            entry.data = body
            self._send(201, None)
        else:
            self._send(400, {"message": "what kind of blob?"})

    def _download(self, data: bytes) -> None:
        begin = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        rest = data[int(begin) :]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(rest)))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.cache.cut:
            rest = rest[: self.cache.cut.pop(0)]
            self.close_connection = True
        self.wfile.write(rest)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts: list[bytes] = []
            while length := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(length))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(
        self, status: int, document: object | None, headers: dict[str, str] | None = None
    ) -> None:
        data = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("x-ms-request-id", "0")  # of each answer of Azure's: clients print it
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def actions_cache() -> Generator[ActionsCache]:
    """Yield a running service, empty, that takes no token yet."""
    server = _Server(("127.0.0.1", 0), _Handler)
    cache = ActionsCache(port=server.server_address[1])
    server.RequestHandlerClass = type("Handler", (_Handler,), {"cache": cache})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield cache
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
