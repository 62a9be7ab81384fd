"""Registries that lie, never end or lead elsewhere: refused by name, and nothing is half-stored."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.cache.store import Store
from pybuild.exporter.imagetools.copy import copy_image
from pybuild.exporter.imagetools.place import RepositoryPlace
from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, InternalError, UserError
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.credentials import Credential, StaticCredentials
from pybuild.registry.client.faults import ContentFault, UnresolvedImage
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.pull import pull_image, resolve_image
from pybuild.registry.client.push import push_image
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, WallClock, make_image, make_index
from tests.registry.server.serving import served
from tests.registry.servers import Authority, proxy_to, serve

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def documents(blobs: DirectoryBlobs) -> Callable[[web.Request], web.Response]:
    """Answer every request for a manifest by digest, and for a blob, out of *blobs*."""

    def answer(request: web.Request) -> web.Response:
        data = blobs.read(Digest.parse(request.path.rpartition("/")[2]))
        kind = json.loads(data).get("mediaType", "") if data[:1] == b"{" else ""
        return web.Response(body=data, headers={"Content-Type": kind or "application/octet-stream"})

    return answer


def quiet(_id: str, _current: int, _total: int) -> None:
    """Show no progress."""


def nested(blobs: DirectoryBlobs, depth: int) -> Descriptor:
    inner = make_image(blobs, b"deep")
    for _ in range(depth):
        inner = make_index(blobs, Descriptor(inner.media_type, inner.digest, inner.size))
    return inner


def test_indexes_without_end_are_refused(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    root, answer = nested(blobs, 6), documents(blobs)

    async def handler(request: web.Request) -> web.StreamResponse:
        return answer(request)

    async def work() -> None:
        with Store.open(tmp_path / "store", WallClock()) as store:
            async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
                at = Reference(host, "a/b", digest=root.digest)
                with pytest.raises(ContentFault, match="more than 4 indexes inside each other"):
                    await resolve_image(c, at, LINUX_AMD64)
                source = RepositoryPlace(at, c)
                with pytest.raises(EnvironmentFault, match="nested more than 4 deep"):
                    await copy_image(source, [], store, quiet)

    run(work())


def test_indexes_are_pushed_four_deep_and_no_deeper(blobs: DirectoryBlobs) -> None:
    stored: list[str] = []

    async def has_all(request: web.Request) -> web.Response:
        if request.method == "PUT":
            stored.append(request.path.rpartition("/")[2])
        return web.Response(status=201 if request.method == "PUT" else 200)

    async def work() -> None:
        async with serve(has_all) as host, client(Hosts({host: {"http": True}})) as c:
            at = Reference(host, "a/b", "t")
            await push_image(c, blobs, nested(blobs, 4), [at])
            with pytest.raises(InternalError, match="nested too deeply to push"):
                await push_image(c, blobs, nested(blobs, 5), [at])

    run(work())
    assert len(stored) == 5
    assert stored[-1] == "t"


def test_an_index_of_ten_thousand_silent_entries_costs_few_requests(blobs: DirectoryBlobs) -> None:
    """Each would have to be fetched to know its platform."""
    inner = make_image(blobs, b"x")
    entry = Descriptor(inner.media_type, inner.digest, inner.size)
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry.to_json()] * 4000}
    data = json.dumps(body).encode()
    root = blobs.put(data)
    answer, asked = documents(blobs), list[str]()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return answer(request)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(UserError, match="no match for platform linux/s390x"):
                at = Reference(host, "a/b", digest=root)
                await resolve_image(c, at, Platform.parse("linux/s390x"))

    run(work())
    assert len(asked) < 30


def test_a_foreign_layer_is_named_and_its_address_not_followed(
    blobs: DirectoryBlobs, other_blobs: DirectoryBlobs
) -> None:
    """[IMG-5]"""
    followed: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        followed.append(request.path)
        return web.Response(body=b"foreign")

    async def work() -> None:
        async with serve(elsewhere) as away:
            layer = Descriptor(FOREIGN, Digest.of(b"foreign"), 7).to_json()
            layer["urls"] = [f"http://{away}/layer"]
            config = Descriptor("application/vnd.oci.image.config.v1+json", blobs.put(b"{}"), 2)
            body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.to_json()}
            data = json.dumps({**body, "layers": [layer]}).encode()
            root, answer = blobs.put(data), documents(blobs)

            async def handler(request: web.Request) -> web.StreamResponse:
                if Digest.of(b"foreign") in request.path:
                    return web.Response(status=404)
                return answer(request)

            async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
                at = Reference(host, "a/b", digest=root)
                with pytest.raises(HttpFault) as caught:
                    await pull_image(c, other_blobs, at, LINUX_AMD64, layers=True)
                assert caught.value.message == (
                    f"pull {host}/a/b: foreign layer {Digest.of(b'foreign')}: not in the registry"
                )
                assert not other_blobs.has(root), "the name of nothing whole"

    run(work())
    assert followed == []


@pytest.mark.slow
def test_a_manifest_that_comes_as_a_gzip_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b'{"schemaVersion": 2' + b" " * (64 << 20) + b"}", 9)

    async def handler(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": OCI_MANIFEST, "Content-Encoding": "gzip"}
        return web.Response(body=bomb, headers=headers)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(ContentFault, match="is not a JSON object"):
                await c.manifest(Reference.parse(f"{host}/a/b"))

    run(work())


def test_a_token_without_end_is_cut_off() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path != "/token":
            challenge = f'Bearer realm="http://{request.host}/token",service="x"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b'{"token": "' + b"x" * 65536)
        except ConnectionError:
            return response

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(HttpFault, match="answer is longer than 1048576 bytes"):
                await c.tags(Reference.parse(f"{host}/a/b"))

    run(work())


def test_pages_that_lead_round_in_a_ring_end() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        following = "?page=2" if "page=1" in request.query_string else "?page=1"
        link = f'<{request.path}{following}>; rel="next"'
        return web.json_response({"name": "a/b", "tags": ["1", "2"]}, headers={"Link": link})

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            assert await c.tags(Reference.parse(f"{host}/a/b")) == ["1", "2"]

    run(work())
    assert len(asked) == 3


@pytest.mark.parametrize("what", ["blob", "manifest"])
def test_what_a_registry_stores_as_something_else_is_no_success(
    blobs: DirectoryBlobs, what: str
) -> None:
    image, other = make_image(blobs, b"layer"), Digest.of(b"other")

    async def handler(request: web.Request) -> web.StreamResponse:
        lies = what in request.path or (what == "blob" and "/up" in request.path)
        headers = {"Docker-Content-Digest": other} if lies else {}
        match request.method:
            case "HEAD":
                return web.Response(status=404)
            case "POST":
                return web.Response(status=202, headers={"Location": "/up"})
            case _:
                await request.read()
                return web.Response(status=201, headers=headers)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(ContentFault, match="stored (under another digest|as another one)"):
                await push_image(c, blobs, image, [Reference.parse(f"{host}/a/b:1")])

    run(work())


@pytest.mark.slow
def test_nobody_is_led_from_tls_to_plain_http(tmp_path: Path) -> None:
    """A redirect of a registry by TLS: neither our name nor the request goes out in the clear."""
    authority = Authority.make(tmp_path)
    heard: list[str] = []

    async def plain(request: web.Request) -> web.StreamResponse:
        heard.append(request.path)
        return web.Response(body=b"x")

    async def work() -> None:
        async with serve(plain) as clear:

            async def handler(request: web.Request) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": f"http://{clear}/x"})

            application = web.Application()
            application.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(application, shutdown_timeout=0.2)
            await runner.setup()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.cert, authority.key)
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            host = f"127.0.0.1:{runner.addresses[0][1]}"
            login = StaticCredentials({host: Credential("me", "pw")})
            try:
                async with client(Hosts({host: {"ca": [str(authority.ca)]}}), login) as c:
                    with pytest.raises(HttpFault, match="redirect to plain HTTP at 127.0.0.1"):
                        await c.tags(Reference.parse(f"{host}/a/b"))
            finally:
                await runner.cleanup()

    run(work())
    assert heard == []


@pytest.mark.slow
def test_a_copy_that_breaks_off_leaves_no_name(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """404 in the middle: what arrived is without a name at the target, and that is all."""
    image = make_image(blobs, b"first", b"second")

    async def lose(request: web.Request, body: bytes) -> web.StreamResponse | None:
        is_it = request.method == "GET" and Digest.of(b"second") in request.path
        return web.Response(status=404) if is_it else None

    async def work() -> None:
        async with served(tmp_path / "a") as one, served(tmp_path / "b") as two:
            with Store.open(tmp_path / "mine", WallClock()) as store:
                async with proxy_to(one.host, lose) as lossy, client() as c:
                    await push_image(c, blobs, image, [Reference.parse(f"{one.host}/app:1")])
                    source = RepositoryPlace(Reference.parse(f"{lossy}/app:1"), c)
                    target = Reference.parse(f"{two.host}/app:1")
                    with pytest.raises(HttpFault, match="404 NOT FOUND"):
                        await copy_image(source, [RepositoryPlace(target, c)], store, quiet)
                    with pytest.raises(UnresolvedImage):
                        await c.resolve(target)
                    assert not store.blobs.has(Digest.of(b"second"))

    run(work(), 60)
