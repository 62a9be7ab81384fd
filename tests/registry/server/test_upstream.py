"""A registry that caches another: what is pulled once is here, upstream or not [REG-8]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pybuild.model.digest import Digest
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.pull import pull_image
from pybuild.registry.server.settings import RegistrySettings, UpstreamSettings
from tests.clocks import FakeClock
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, WallClock
from tests.registry.server.serving import Served, described, image, index, served
from tests.registry.servers import serve

LAYER = os.urandom(300_000)


@asynccontextmanager
async def caching(
    root: Path, host: str, clock: FakeClock | None = None, for_all: bool = False
) -> AsyncGenerator[Served]:
    upstream = UpstreamSettings(prefix="up", host=host, fresh_s=60.0, for_all=for_all)
    settings = RegistrySettings(upstreams=(upstream,), grace_s=0.2)
    async with served(root, settings, clock or WallClock()) as one:
        yield one


def outcomes(one: Served) -> dict[str, int]:
    """Return the number of requests to upstream since the last call, by their outcome."""
    assert one.hosting is not None
    counted = {outcome: count for (_, outcome), count in one.hosting.metrics.fetched.items()}
    one.hosting.metrics.fetched.clear()
    return counted


@pytest.mark.slow
def test_what_was_pulled_once_comes_from_here(tmp_path: Path) -> None:
    clock = FakeClock()

    async def work() -> None:
        async with caching_of_origin(tmp_path, clock) as (origin, cache):
            digest = await origin.push_image("team/app", "v1", LAYER)
            blob = f"/v2/up/team/app/blobs/{Digest.of(LAYER)}"
            early = await cache.ask("GET", blob)
            assert early.status == 404, "no manifest that was pulled names it"
            first = await cache.ask("GET", "/v2/up/team/app/manifests/v1")
            assert (first.status, first.headers["Docker-Content-Digest"]) == (200, digest)
            head = await cache.ask("HEAD", blob)
            assert (head.status, head.headers["Content-Length"]) == (200, str(len(LAYER)))
            both = await asyncio.gather(*(cache.ask("GET", blob) for _ in range(4)))
            assert {answer.body for answer in both} == {LAYER}
            assert outcomes(cache) == {"fetched": 1, "blob": 1}
            assert cache.store.blobs.verify(Digest.of(LAYER))
            again = await cache.ask("GET", "/v2/up/team/app/manifests/v1")
            assert again.body == first.body
            assert outcomes(cache) == {"hit": 1}
            clock.advance(61)
            await cache.ask("GET", "/v2/up/team/app/manifests/v1")
            assert outcomes(cache) == {"same": 1}
            moved = await origin.push_image("team/app", "v1", b"another")
            clock.advance(61)
            new = await cache.ask("GET", "/v2/up/team/app/manifests/v1")
            assert new.headers["Docker-Content-Digest"] == moved
            old = await cache.ask("GET", f"/v2/up/team/app/manifests/{digest}")
            assert old.body == first.body
            tags = await cache.ask("GET", "/v2/up/team/app/tags/list")
            assert tags.json == {"name": "up/team/app", "tags": ["v1"]}

    run(work())


@pytest.mark.slow
def test_a_clock_that_is_set_back_keeps_no_tag_for_longer(tmp_path: Path) -> None:
    clock = FakeClock()

    async def work() -> None:
        async with caching_of_origin(tmp_path, clock) as (origin, cache):
            await origin.push_image("a", "v1", LAYER)
            await cache.ask("GET", "/v2/up/a/manifests/v1")
            moved = await origin.push_image("a", "v1", b"another")
            clock.advance(-86400)
            new = await cache.ask("GET", "/v2/up/a/manifests/v1")
            assert new.headers["Docker-Content-Digest"] == moved

    run(work())


@asynccontextmanager
async def caching_of_origin(
    tmp_path: Path, clock: FakeClock | None = None, for_all: bool = False
) -> AsyncGenerator[tuple[Served, Served]]:
    async with (
        served(tmp_path / "origin") as origin,
        caching(tmp_path / "cache", origin.host, clock, for_all) as cache,
    ):
        yield origin, cache


@pytest.mark.slow
def test_without_upstream_what_is_here_has_to_do(tmp_path: Path) -> None:
    clock = FakeClock()

    async def work() -> None:
        async with caching_of_origin(tmp_path, clock) as (origin, cache):
            await origin.push_image("a", "v1", LAYER)
            assert (await cache.ask("GET", "/v2/up/a/manifests/v1")).status == 200
            await cache.ask("GET", f"/v2/up/a/blobs/{Digest.of(LAYER)}")
            assert origin.hosting is not None
            host = origin.host
        clock.advance(3600)
        async with caching(tmp_path / "cache", host, clock) as cache:
            assert (await cache.ask("GET", "/v2/up/a/manifests/v1")).status == 200
            got = await cache.ask("GET", f"/v2/up/a/blobs/{Digest.of(LAYER)}")
            assert got.body == LAYER
            assert (await cache.ask("GET", "/v2/up/a/tags/list")).json["tags"] == ["v1"]
            failed = await cache.ask("GET", "/v2/up/a/manifests/v2")
            assert failed.status == 502
            assert outcomes(cache) == {"stale": 2, "failed": 1}

    run(work())


def test_a_tag_that_upstream_deleted_is_gone_here(tmp_path: Path) -> None:
    clock = FakeClock()

    async def work() -> None:
        async with caching_of_origin(tmp_path, clock) as (origin, cache):
            await origin.push_image("a", "v1")
            assert (await cache.ask("GET", "/v2/up/a/manifests/v1")).status == 200
            await origin.ask("DELETE", "/v2/a/manifests/v1")
            clock.advance(61)
            assert (await cache.ask("GET", "/v2/up/a/manifests/v1")).status == 404
            assert (await cache.ask("GET", "/v2/up/nothing/manifests/v1")).status == 404
            assert outcomes(cache) == {"fetched": 1, "missing": 2}

    run(work())


def test_a_cache_is_not_pushed_to(tmp_path: Path) -> None:
    async def work() -> None:
        async with caching_of_origin(tmp_path) as (_, cache):
            refused = await cache.ask("POST", "/v2/up/a/blobs/uploads/")
            assert (refused.status, refused.code) == (405, "UNSUPPORTED")
            assert (await cache.ask("POST", "/v2/ours/blobs/uploads/")).status == 202

    run(work())


def test_mirrors_are_asked_with_a_namespace_or_without(tmp_path: Path) -> None:
    async def work() -> None:
        async with caching_of_origin(tmp_path, for_all=True) as (origin, cache):
            await origin.push_image("team/app", "v1", LAYER)
            named = await cache.ask("GET", f"/v2/team/app/manifests/v1?ns={origin.host}")
            assert (named.status, named.headers["OCI-Namespace"]) == (200, origin.host)
            other = await cache.ask("GET", "/v2/team/app/manifests/v1?ns=other.example")
            assert other.status == 404
            plain = await cache.ask("GET", "/v2/team/app/manifests/v1")
            assert plain.body == named.body
            await cache.push_image("team/app", "v1", b"our own of that name")
            ours = await cache.ask("GET", "/v2/team/app/manifests/v1")
            assert ours.body != named.body

    run(work())


def test_a_part_of_a_blob_that_is_not_here_yet(tmp_path: Path) -> None:
    async def work() -> None:
        async with caching_of_origin(tmp_path) as (origin, cache):
            await origin.push_image("a", "v1", LAYER)
            await cache.ask("GET", "/v2/up/a/manifests/v1")
            part = await cache.ask(
                "GET", f"/v2/up/a/blobs/{Digest.of(LAYER)}", headers={"Range": "bytes=10-19"}
            )
            assert (part.status, part.body) == (206, LAYER[10:20])

    run(work())


def test_what_the_builder_has_pulled_is_not_pulled_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with caching_of_origin(tmp_path) as (origin, cache):
            await origin.push_image("a", "v1", LAYER)
            cache.store.blobs.put(LAYER)
            await cache.ask("GET", "/v2/up/a/manifests/v1")
            got = await cache.ask("GET", f"/v2/up/a/blobs/{Digest.of(LAYER)}")
            assert got.body == LAYER
            assert outcomes(cache) == {"fetched": 1}

    run(work())


def test_a_blob_that_upstream_falsifies_is_not_kept(tmp_path: Path) -> None:
    """A client that reads it meanwhile has the connection cut before the last byte."""

    async def work() -> None:
        async with served(tmp_path / "origin") as origin:
            await origin.push_image("a", "v1", LAYER)

            async def lie(request: web.Request) -> web.StreamResponse:
                if f"{Digest.of(LAYER)}" in request.path:
                    return web.Response(body=bytes(len(LAYER)))
                answer = await origin.ask(request.method, request.path)
                kept = ("Content-Type", "Docker-Content-Digest")
                headers = {key: answer.headers[key] for key in kept if key in answer.headers}
                return web.Response(status=answer.status, body=answer.body, headers=headers)

            async with serve(lie) as host, caching(tmp_path / "cache", host) as cache:
                assert (await cache.ask("GET", "/v2/up/a/manifests/v1")).status == 200
                try:
                    got = await cache.ask("GET", f"/v2/up/a/blobs/{Digest.of(LAYER)}")
                except aiohttp.ClientError:
                    pass
                else:
                    raise AssertionError(got.status)
                assert not cache.store.blobs.has(Digest.of(LAYER))
                names = [name for name in os.listdir(cache.store.tmp.path) if "lock" not in name]
                assert names == []

    run(work())


@pytest.mark.slow
def test_our_own_client_pulls_through_it_as_a_mirror(tmp_path: Path) -> None:
    async def work() -> None:
        async with caching_of_origin(tmp_path) as (origin, cache):
            config = await origin.push_blob("app", b"{}")
            document = image(config, [await origin.push_blob("app", b"layer")])
            await origin.put("app", described(document)["digest"], document)
            entry = {**described(document), "platform": {"os": "linux", "architecture": "amd64"}}
            await origin.put("app", "v1", index([entry]))
            hosts = Hosts({origin.host: {"mirrors": [cache.host]}})
            blobs = DirectoryBlobs(tmp_path / "blobs")
            reference = Reference.parse(f"{origin.host}/app:v1")
            async with client(hosts) as ours:
                platform = Platform("linux", "amd64")
                pulled = await pull_image(ours, blobs, reference, platform, layers=True)
            assert blobs.has(pulled.layers[0].digest)
            assert outcomes(cache) == {"fetched": 2, "blob": 2}

    run(work())
