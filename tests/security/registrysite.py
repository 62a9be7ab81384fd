"""A running ``pybuild registry serve`` with two tenants, and requests to it byte for byte."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from pybuild.model.descriptor import OCI_MANIFEST
from pybuild.model.digest import Digest
from tests.registry.server.processes import process
from tests.registry.server.serving import descriptor, encoded, image

CONFIG = """\
[[registry-server.access]]
users = ["*"]
repositories = ["home/$user/*"]
actions = ["pull", "push", "delete"]

[[registry-server.access]]
users = ["anonymous"]
repositories = ["public/*"]
actions = ["pull"]

[[registry-server.access]]
users = ["keeper"]
repositories = ["public/*"]
actions = ["pull", "push"]
"""
# Names that patterns could be fooled by are users too, with rights on no repository.
USERS = ("ann", "bob", "keeper", "*", "ann/app", "a*", "anonymous", "$user", "..")
SECRET = b"only ann may read this"


@dataclass(frozen=True)
class Reply:
    """The answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Bytes:
    """The bytes that `http.client` reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def reply_of(data: bytes, method: str) -> Reply:
    response = http.client.HTTPResponse(_Bytes(data), method=method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, body)


def login(user: str, password: str = "") -> dict[str, str]:
    given = f"{user}:{password or user}".encode()
    return {"Authorization": "Basic " + base64.b64encode(given).decode()}


@dataclass(frozen=True)
class Registry:
    """The server; what ann has there, and an upload that she has begun."""

    host: str
    manifest: Digest
    document: dict[str, Any]
    layer: Digest
    upload: str

    def raw(self, data: bytes, method: str = "GET") -> Reply:
        """Send bytes as they are; the server closes after its answer."""
        address, _, port = self.host.partition(":")
        with socket.create_connection((address, int(port)), 10) as one:
            try:
                one.sendall(data)
            except ConnectionError:
                pass  # it has heard enough; its answer counts
            found = bytearray()
            try:
                while piece := one.recv(1 << 16):
                    found += piece
            except ConnectionError:
                pass
        return reply_of(bytes(found), method)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        user: str = "bob",
    ) -> Reply:
        """Send *path* as it is, with no library to make it nicer."""
        given: dict[str, str] = {"Host": self.host, "Connection": "close"}
        given |= login(user) if user else {}
        if body or method in ("PUT", "PATCH", "POST"):
            given["Content-Length"] = str(len(body))
        given |= headers or {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
        head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
        return self.raw(head + body, method)


def push(one: Registry, user: str, name: str, tag: str, layer: bytes) -> dict[str, Any]:
    """Push an image of one layer, and return its manifest."""
    for data in (b"{}", layer):
        path = f"/v2/{name}/blobs/uploads/?digest={Digest.of(data)}"
        assert one.ask("POST", path, data, user=user).status == 201
    document = image(Digest.of(b"{}"), [Digest.of(layer)])
    document["layers"][0] = descriptor(
        "application/vnd.oci.image.layer.v1.tar", Digest.of(layer), len(layer)
    )
    kind = {"Content-Type": OCI_MANIFEST}
    reply = one.ask("PUT", f"/v2/{name}/manifests/{tag}", encoded(document), kind, user)
    assert reply.status == 201, reply
    return document


@contextmanager
def registry(where: Path, *flags: str) -> Generator[Registry]:
    """Serve, with an image and an unfinished upload of ann's."""
    users, config = where / "htpasswd", where / "pybuild.toml"
    lines = [f"{name}:{bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode()}" for name in USERS]
    users.write_text("\n".join(lines) + "\n")
    config.write_text(CONFIG)
    words = ("--config", str(config), "--htpasswd", str(users), *flags)
    with process(where / "store", *words) as serving:
        bare = Registry(serving.host, Digest.of(b""), {}, Digest.of(b""), "")
        document = push(bare, "ann", "home/ann/app", "v1", SECRET)
        push(bare, "keeper", "public/tools", "v1", b"for everybody")
        begun = bare.ask("POST", "/v2/home/ann/app/blobs/uploads/", user="ann")
        upload = begun.headers["docker-upload-uuid"]
        place = f"/v2/home/ann/app/blobs/uploads/{upload}"
        assert bare.ask("PATCH", place, b"half of it", user="ann").status == 202
        digest = Digest.of(encoded(document))
        yield Registry(serving.host, digest, document, Digest.of(SECRET), upload)
        if serving.process.poll() is None:
            assert serving.stop() == 0
        assert "Traceback" not in serving.said()


def token(one: Registry, user: str, *scopes: str) -> str:
    query = "&".join(f"scope={scope}" for scope in scopes)
    reply = one.ask("GET", f"/token?service=pybuild-registry&{query}", user=user)
    assert reply.status == 200, reply
    return str(json.loads(reply.body)["token"])
