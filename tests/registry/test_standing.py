"""The one question that shows that nothing has to be pushed: only a plain yes counts."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from pybuild.model.descriptor import OCI_MANIFEST
from pybuild.registry.client import standing
from tests.registry.servers import serve

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PATH = "/v2/a/b/manifests/1"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def answered(status: int, **headers: str) -> tuple[bool, list[tuple[str, str, str]]]:
    """Return the verdict that follows from an answer, and the requests that were sent for it."""
    requests: list[tuple[str, str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        requests.append((request.method, request.path, request.headers["Accept"]))
        return web.Response(status=status, headers=headers)

    async def work() -> bool:
        async with serve(handler) as host:
            return await asyncio.to_thread(standing.stands, host, PATH, OCI_MANIFEST, DIGEST)

    return asyncio.run(work()), requests


def test_a_manifest_that_is_there_costs_one_head() -> None:
    stands, requests = answered(200, **{"Docker-Content-Digest": DIGEST})
    assert stands
    assert requests == [("HEAD", PATH, OCI_MANIFEST)]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"Docker-Content-Digest": OTHER}),
        (200, {}),
        (202, {"Docker-Content-Digest": DIGEST}),
        (307, {"Docker-Content-Digest": DIGEST, "Location": "/elsewhere"}),
        (401, {"Docker-Content-Digest": DIGEST}),
        (404, {}),
        (500, {"Docker-Content-Digest": DIGEST}),
    ],
)
def test_any_other_answer_is_no_yes(status: int, headers: dict[str, str]) -> None:
    stands, requests = answered(status, **headers)
    assert not stands
    assert len(requests) == 1


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK", b"\xff\xfe" * 50_000, b"\r\n\r\n"])
def test_what_is_no_answer_is_no_yes(said: bytes) -> None:
    async def work() -> bool:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            where = (f"127.0.0.1:{port}", PATH, OCI_MANIFEST, DIGEST)
            return await asyncio.to_thread(standing.stands, *where)

    assert not asyncio.run(work())


def test_nobody_there_is_an_error_of_the_system() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        netloc = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError):
            standing.stands(netloc, PATH, OCI_MANIFEST, DIGEST)


def test_behind_a_proxy_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert not standing.stands("registry.example", PATH, OCI_MANIFEST, DIGEST)
