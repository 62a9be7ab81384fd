"""A registry to pull from that keeps a list of who asked, and may ask for a password or lie."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Library:
    """The contents of the registry.

    Attributes:
        host: where it listens.
        manifests: bytes and media type, by repository and then by tag or digest.
        blobs: bytes by repository and then by digest.
        passwords: what ``user:password`` a repository wants; the others want none.
        asked: method, path and user of every request, in order.
    """

    host: str
    manifests: dict[str, dict[str, tuple[bytes, str]]] = field(
        default_factory=dict[str, dict[str, tuple[bytes, str]]]
    )
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    passwords: dict[str, str] = field(default_factory=dict[str, str])
    asked: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    def put(self, repository: str, tag: str, data: bytes, kind: str = MANIFEST) -> str:
        digest = digest_of(data)
        known = self.manifests.setdefault(repository, {})
        known[tag] = known[digest] = (data, kind)
        return digest

    def blob(self, repository: str, data: bytes) -> dict[str, Any]:
        digest = digest_of(data)
        self.blobs.setdefault(repository, {})[digest] = data
        return {"digest": digest, "size": len(data)}

    def image(self, repository: str, tag: str, layer: bytes, **config: object) -> str:
        """Serve an image of one layer, a tar; return the manifest's digest."""
        value = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
        held = self.blob(repository, json.dumps(value, sort_keys=True).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **held},
            "layers": [{"mediaType": LAYER, **self.blob(repository, layer)}],
        }
        return self.put(repository, tag, json.dumps(manifest, sort_keys=True).encode())

    def of_store(self, store: Path, name: str, repository: str, tag: str) -> str:
        """Serve an image of an OCI layout under another name."""
        index = json.loads((store / "index.json").read_text())["manifests"]
        (entry,) = [
            one
            for one in index
            if one.get("annotations", {}).get("io.containerd.image.name") == name
        ]

        def read(digest: str) -> bytes:
            return (store / "blobs" / digest.replace(":", "/")).read_bytes()

        data = read(entry["digest"])
        manifest = json.loads(data)
        for held in (manifest["config"], *manifest["layers"]):
            self.blob(repository, read(held["digest"]))
        return self.put(repository, tag, data, entry["mediaType"])

    def users(self, repository: str) -> list[str]:
        """Return who asked for something of *repository*."""
        return [user for _, path, user in self.asked if path.startswith(f"/v2/{repository}/")]


@contextmanager
def library() -> Generator[Library]:
    """Serve on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            found, kind = self._find()
            if found is None:
                self._say(404, b"{}", {})
            elif self._is_refused():
                self._say(401, b"{}", {"WWW-Authenticate": 'Basic realm="library"'})
            else:
                headers = {"Content-Type": kind, "Docker-Content-Digest": digest_of(found)}
                self._say(200, found, headers)

        def _user(self) -> str:
            header = self.headers.get("Authorization", "")
            return base64.b64decode(header.removeprefix("Basic ")).decode() if header else ""

        def _parts(self) -> tuple[str, str, str]:
            path = self.path.partition("?")[0].removeprefix("/v2/")
            for kind in ("manifests", "blobs"):
                repository, mark, name = path.rpartition(f"/{kind}/")
                if mark:
                    return repository, kind, name
            return "", "", ""

        def _is_refused(self) -> bool:
            wanted = served.passwords.get(self._parts()[0])
            return wanted is not None and self._user() != wanted

        def _find(self) -> tuple[bytes | None, str]:
            served.asked.append((self.command, self.path, self._user().partition(":")[0]))
            repository, kind, name = self._parts()
            if kind == "manifests":
                return served.manifests.get(repository, {}).get(name, (None, ""))
            if kind == "blobs":
                return served.blobs.get(repository, {}).get(name), "application/octet-stream"
            return b"{}", "application/json"

        def _say(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Library(f"127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
