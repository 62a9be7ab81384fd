"""The requests to a Docker engine and its answers, from an engine by hand [OUT-4]."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.cache.store import Store
from pybuild.exporter.docker.address import Address
from pybuild.exporter.docker.engine import DockerEngine, EngineRefused
from pybuild.exporter.docker.load import load_into
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.model.errors import EnvironmentFault, UsageError
from tests.cache.test_images import put_json
from tests.clocks import FakeClock
from tests.registry.servers import Authority

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def engine_at(
    where: Path, handler: Handler, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[str]:
    """Serve *handler* at a socket, or by TLS on loopback; gives the address."""
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    path = str(where / "e.sock")
    try:
        if tls is None:
            await web.UnixSite(runner, path).start()
            yield f"unix://{path}"
        else:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            yield f"tcp://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


def content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def test_an_image_is_looked_for_named_and_loaded_over_a_socket(tmp_path: Path) -> None:
    seen: list[tuple[str, str, bytes]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path_qs, await request.read()))
        match request.path:
            case "/_ping":
                return web.Response(text="OK")
            case "/images/json":
                return web.json_response([{"Id": "sha256:1"}, {"Id": "sha256:gone"}])
            case "/images/sha256:1/json":
                layers = {"Layers": ["sha256:a", "sha256:b", "sha256:x"]}
                return web.json_response({"RepoTags": ["a:1"], "RootFS": layers})
            case "/images/sha256:1/tag":
                return web.Response(status=201)
            case "/images/load":
                return web.Response(text=json.dumps({"stream": "Loaded image: a:1\n"}) + "\n")
            case _:
                return web.json_response({"message": "no such image"}, status=404)

    async def body() -> None:
        async with engine_at(tmp_path, answer) as url, DockerEngine(Address(url)) as engine:
            assert await engine.answers()
            assert await engine.tags_of("sha256:1") == ["a:1"]
            assert await engine.tags_of("sha256:2") is None
            await engine.tag("sha256:1", "host/a b", "2")
            assert await engine.known_layers(["sha256:a", "sha256:b", "sha256:c"]) == 2
            archive = pieces(b"x" * 100_000, b"", b"y")
            assert await engine.load(archive) == ["Loaded image: a:1"]

    asyncio.run(body())
    assert ("POST", "/images/sha256:1/tag?repo=host%2Fa%20b&tag=2", b"") in seen
    assert seen[-1] == ("POST", "/images/load?quiet=1", b"x" * 100_000 + b"y")


def test_an_image_of_the_store_comes_whole_to_an_engine_that_has_none_of_it(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/images/load":
            status = 200 if request.path == "/images/json" else 404
            return web.Response(text="[]" if status == 200 else "{}", status=status)
        bodies.append(await request.read())
        return web.Response(text=json.dumps({"stream": "Loaded image: a:1\n"}) + "\n")

    said: list[str] = []
    with Store.open(tmp_path / "store", FakeClock()) as store:
        layer = Descriptor(OCI_LAYER, store.blobs.put(b"layer"), 5)
        rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
        config = put_json(store, OCI_CONFIG, {"rootfs": rootfs})
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
        parts = {"config": config.to_json(), "layers": [layer.to_json()]}
        made = put_json(store, OCI_MANIFEST, {**manifest, **parts})

        async def body() -> None:
            async with engine_at(tmp_path, answer) as url:
                await load_into(store, Address(url), made, ["a:1"], said.append)

        asyncio.run(body())
    assert said == ["Loaded image: a:1"]
    with tarfile.open(fileobj=io.BytesIO(bodies[0])) as archive:
        (entry,) = json.loads(content(archive, "manifest.json"))
        assert entry["RepoTags"] == ["a:1"]
        assert content(archive, entry["Layers"][0]) == b"layer"


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (200, '{"stream":"a"}\n{"error":"no space left"}\n', "no space left"),
        (500, '{"message":"invalid tar header"}', "invalid tar header"),
        (500, "", "status 500"),
        (502, "<html>", "status 502"),
    ],
)
def test_an_engine_that_does_not_load_says_why(
    tmp_path: Path, status: int, text: str, reason: str
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    async def body() -> None:
        async with engine_at(tmp_path, answer) as url, DockerEngine(Address(url)) as engine:
            with pytest.raises(EnvironmentFault) as caught:
                await engine.load(pieces(bytes(1000)))
            assert caught.value.message == f"Docker engine at {url}: {reason}"

    asyncio.run(body())


def test_a_refusal_is_told_from_an_engine_that_is_not_there(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "no such image: x"}, status=404)

    async def body() -> None:
        async with engine_at(tmp_path, answer) as url, DockerEngine(Address(url)) as engine:
            with pytest.raises(EngineRefused, match=f"{url}: no such image: x"):
                await engine.tag("sha256:1", "a", "1")
        async with DockerEngine(Address(url)) as engine:
            assert not await engine.answers()
            with pytest.raises(
                EnvironmentFault, match="(connection refused|no such file or directory)$"
            ) as caught:
                await engine.known_layers(["sha256:a"])
            assert not isinstance(caught.value, EngineRefused)

    asyncio.run(body())


@pytest.mark.slow
def test_certificates_of_both_sides_are_those_of_the_directory_alone(tmp_path: Path) -> None:
    """An engine that another authority has signed is none of ours, though the system trusts it."""
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    authority, stranger = Authority.make(own), Authority.make(other)
    (own / "ca.pem").write_bytes(authority.ca.read_bytes())
    (own / "cert.pem").write_bytes(authority.cert.read_bytes())
    (own / "key.pem").write_bytes(authority.key.read_bytes())
    (other / "ca.pem").write_bytes(stranger.ca.read_bytes())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    tls.load_cert_chain(authority.cert, authority.key)
    tls.verify_mode = ssl.CERT_REQUIRED

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text="OK")

    async def body() -> None:
        async with engine_at(tmp_path, answer, tls) as url:
            async with DockerEngine(Address(url, str(own))) as engine:
                assert await engine.answers()
            async with DockerEngine(Address(url, str(other))) as engine:
                with pytest.raises(EnvironmentFault, match="certificate verify failed"):
                    await engine.known_layers([])
            empty = tmp_path / "empty"
            empty.mkdir()
            async with DockerEngine(Address(url, str(empty))) as engine:
                with pytest.raises(UsageError, match=r"ca\.pem: No such file"):
                    await engine.answers()

    asyncio.run(body())
