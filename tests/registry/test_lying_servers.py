"""Servers that lie: what they say is checked, bounded, and kept nowhere before it is [REG-11]."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.pull import pull_image
from pybuild.registry.client.push import push_image
from pybuild.registry.client.transport import TransferLimits
from tests.registry.conftest import client, run, seed_image
from tests.registry.fakes import DirectoryBlobs, WallClock
from tests.registry.servers import proxy_to, serve
from tests.services import RegistryProcess


@pytest.mark.slow
@pytest.mark.registry
def test_lying_proxy_is_found_out(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    """Same length, one byte changed: both digests are named, and nothing is kept."""
    seed_image(registry, repository, blobs)
    wrong = b"S" + b"mall"

    async def lie(request: web.Request, body: bytes) -> web.StreamResponse | None:
        return web.Response(body=wrong) if body == b"small" else None

    async def work() -> None:
        async with proxy_to(registry.host, lie) as proxy, client() as c:
            reference = Reference.parse(f"{proxy}/{repository}")
            with pytest.raises(ContentFault) as caught:
                await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)
            assert caught.value.message == (
                f"pull {proxy}/{repository}: blob {Digest.of(b'small')}: "
                f"got {Digest.of(wrong)} after 5 of 5 bytes"
            )

    run(work())
    assert other_blobs.leftovers() == []
    assert not other_blobs.has(Digest.of(b"small"))


@pytest.mark.registry
def test_the_real_store_keeps_nothing_of_a_lie(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs, tmp_path: Path
) -> None:
    """A mirror's lie is found by the store, and the origin is asked."""
    seed_image(registry, repository, blobs)
    store = Store.open(tmp_path / "store", WallClock())
    small = Descriptor("x", Digest.of(b"small"), 5)

    async def lie(request: web.Request, body: bytes) -> web.StreamResponse | None:
        return web.Response(body=b"Small") if body == b"small" else None

    async def work() -> None:
        async with proxy_to(registry.host, lie) as proxy:
            async with client() as c:
                with pytest.raises(ContentFault, match="got sha256:.* after 5 of 5 bytes"):
                    await c.pull_blob(Reference.parse(f"{proxy}/{repository}"), small, store.blobs)
            assert not store.blobs.has(small.digest)
            async with client(Hosts({registry.host: {"mirrors": [proxy]}})) as c:
                reference = Reference.parse(f"{registry.host}/{repository}")
                await c.pull_blob(reference, small, store.blobs)
            assert store.blobs.read(small.digest) == b"small"

    try:
        run(work())
    finally:
        store.close()


@pytest.mark.registry
def test_manifest_that_is_not_what_its_digest_says_is_refused(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs
) -> None:
    seed_image(registry, repository, blobs)

    async def lie(request: web.Request, body: bytes) -> web.StreamResponse | None:
        if "/manifests/" not in request.path:
            return None
        other = body.replace(b'"schemaVersion": 2', b'"schemaVersion":  2')
        headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": Digest.of(body)}
        return web.Response(body=other, headers=headers)

    async def work() -> None:
        async with proxy_to(registry.host, lie) as proxy, client() as c:
            reference = Reference.parse(f"{proxy}/{repository}")
            with pytest.raises(ContentFault, match="manifest sha256:.*: got sha256:"):
                await c.manifest(reference)

    run(work())


@pytest.mark.registry
def test_mirror_that_lies_or_fails_does_no_harm(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    """[REG-8] in order, then the origin; with ?ns= and a path below /v2."""
    image = seed_image(registry, repository, blobs)
    asked: list[str] = []

    async def lying(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        if "/blobs/" in request.path:
            return web.Response(body=b"x" * 5)
        return web.Response(status=404)

    async def work() -> None:
        async with serve(lying) as mirror:
            mirrors = ["127.0.0.1:1", f"{mirror}/cache/hub"]
            hosts = Hosts({registry.host: {"mirrors": mirrors}})
            async with client(hosts) as c:
                reference = Reference.parse(f"{registry.host}/{repository}")
                await pull_image(c, other_blobs, reference, LINUX_AMD64, layers=True)
                await push_image(c, blobs, image, [reference])

    run(work())
    assert other_blobs.has(Digest.of(b"small")) and other_blobs.has(image.digest)
    namespace = registry.host.replace(":", "%3A")
    assert f"/v2/cache/hub/{repository}/manifests/latest?ns={namespace}" in asked
    assert not any("upload" in path for path in asked)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("short", "10 of 1000 bytes offered"),
        ("silent-short", "ends after 10 of 1000 bytes"),
        ("endless", "more than 1000 bytes"),
        ("long", "2000 of 1000 bytes offered"),
        ("wrong-range", "got another range than was asked for"),
        ("drip", "no answer for 0.1 s"),
    ],
)
def test_body_of_the_wrong_length_ends_in_bounded_time(
    other_blobs: DirectoryBlobs, answer: str, words: str
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if answer == "short":
            return web.Response(body=b"x" * 10)
        if answer == "long":
            return web.Response(body=b"x" * 2000)
        if answer == "wrong-range":
            return web.Response(
                status=206, body=b"x" * 10, headers={"Content-Range": "bytes 5-14/1000"}
            )
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            if answer == "silent-short":
                await response.write(b"x" * 10)
            while answer == "endless":
                await response.write(b"x" * 65536)
            while answer == "drip":
                await response.write(b"x")
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        return response

    idle_s = 0.1 if answer == "drip" else 5.0
    limits = TransferLimits(attempts=2, backoff_s=0.001, idle_s=idle_s, idle_bytes=100)
    descriptor = Descriptor("x", Digest.of(b"whatever"), 1000)

    async def work() -> None:
        async with (
            serve(handler) as host,
            client(Hosts({host: {"http": True}}), limits=limits) as c,
        ):
            with pytest.raises(EnvironmentFault) as caught:
                await c.pull_blob(Reference.parse(f"{host}/a/b"), descriptor, other_blobs)
            assert words in caught.value.message

    run(work())
    assert other_blobs.leftovers() == [] and not other_blobs.has(descriptor.digest)


def test_endless_manifest_is_cut_off() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=405)
        response = web.StreamResponse(headers={"Content-Type": OCI_MANIFEST})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except ConnectionError:
            return response

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(ContentFault, match="answer is longer than 8388608 bytes"):
                await c.resolve(Reference.parse(f"{host}/a/b"))

    run(work())


def test_schema_1_is_refused_by_name() -> None:
    """[REG-14]"""
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"

    async def handler(request: web.Request) -> web.StreamResponse:
        body = json.dumps({"schemaVersion": 1, "fsLayers": []}).encode()
        return web.Response(body=body, headers={"Content-Type": kind})

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            for ask in (c.resolve, c.manifest):
                with pytest.raises(UserError, match="retired schema 1 manifest format"):
                    await ask(Reference.parse(f"{host}/a/b"))

    run(work())


def test_servers_words_cannot_upset_a_terminal() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        errors = [{"code": "\x1b[31mX", "message": "a\nb\u202e" + "c" * 5000}]
        return web.json_response({"errors": errors}, status=400)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(HttpFault) as caught:
                await c.tags(Reference.parse(f"{host}/a/b"))
            assert caught.value.message.isprintable() and len(caught.value.message) < 500

    run(work())


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (web.Response(status=400, text="no"), HttpFault, "PUT /v2/a/b/manifests/1: 400"),
        (web.Response(status=409), HttpFault, "PUT /v2/a/b/manifests/1: 409"),
        (
            web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(b"x")}),
            ContentFault,
            "stored as another one",
        ),
    ],
    ids=["refused", "in conflict", "another one"],
)
def test_a_manifest_that_was_not_stored_is_a_fault_in_words(
    answer: web.Response, kind: type[Exception], words: str
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return answer

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(kind, match=words):
                await c.push_manifest(Reference.parse(f"{host}/a/b:1"), OCI_MANIFEST, b"{}")

    run(work())
