"""A cache may be anything: down, slow, broken, lying. It costs a warning and never a build [CCH-12]."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.image.cacheformat.config import CACHE_CONFIG
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.events import BuildWarning, Event
from pybuild.remotecache import imports
from pybuild.remotecache.imports import import_caches
from pybuild.remotecache.options import parse_cache_from
from tests.e2e.caches import Machines
from tests.harness import write
from tests.needs import need
from tests.services import RegistryProcess, start_registry
from tests.webservers import serving

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

STEPS = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /made\nRUN echo more >> /made\n"


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    machines = Machines(tmp_path, base_store)
    write(machines.context, Dockerfile=STEPS)
    return machines


# --- what a registry may say of a cache -----------------------------------------------------------


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _manifest(config: bytes, said: str = "") -> bytes:
    blob = {"mediaType": CACHE_CONFIG, "digest": said or _digest(config), "size": len(config)}
    layers: list[object] = []
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob,
        "layers": layers,
    }
    return json.dumps(body).encode()


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65536


def _answers(manifest: Any, config: Any = b"") -> Callable[[web.Request], Any]:
    """Return a registry that gives these bodies: bytes, a status, or an endless one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/":
            return web.Response()
        what = manifest if "/manifests/" in request.path else config
        if isinstance(what, int):
            return web.Response(status=what)
        kind = OCI_MANIFEST if what is manifest else "application/octet-stream"
        body = _endless() if what is ... else what
        return web.Response(body=body, content_type=kind)

    return answer


GOOD = b'{"layers": [], "records": []}'
NOT_WHAT_IT_SAYS = "sha256:" + "0" * 64
CYCLE = json.dumps(
    {
        "layers": [
            {"blob": NOT_WHAT_IT_SAYS, "parent": 1},
            {"blob": NOT_WHAT_IT_SAYS, "parent": 0},
        ],
        "records": [{"digest": NOT_WHAT_IT_SAYS, "layers": [{"layer": 0}]}],
    }
).encode()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_answers(501), "501"),
        (_answers(b"{"), "manifest"),
        (_answers(b'{"schemaVersion": 2, "layers": 7}'), "cannot import"),
        (_answers(...), "longer than"),
        (_answers(_manifest(GOOD), 404), "404"),
        (_answers(_manifest(GOOD), GOOD[:-1]), "cannot import"),
        (_answers(_manifest(GOOD), GOOD[:-1] + b" "), "got sha256:"),
        (_answers(_manifest(GOOD), ...), "cannot import"),
        (_answers(_manifest(b"[1, 2"), b"[1, 2"), "cache config"),
        (_answers(_manifest(CYCLE), CYCLE), "more than 500 layers"),
    ],
)
def test_a_registry_that_says_nonsense_costs_a_warning(
    machines: Machines, answer: Callable[[web.Request], Any], why: str
) -> None:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    with serving(application) as url:
        ref = f"{url.removeprefix('http://')}/some/cache:1"
        found = machines.build(machines.fresh(), "--cache-from", ref)
    assert len(found.ran) == 2
    assert f"cannot import the cache from {ref}" in found.log
    assert why in found.log


def test_a_source_that_says_nothing_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "PATIENCE_S", 0.05)

    class Silent:
        @property
        def place(self) -> dict[str, str]:
            return {"layout": "nowhere"}

        async def root(self) -> tuple[Descriptor, bytes]:
            await asyncio.Event().wait()
            raise AssertionError

        async def read(self, blob: Descriptor, limit: int) -> bytes:
            raise AssertionError

    async def work() -> list[Event]:
        told: list[Event] = []
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            sources = [(parse_cache_from("a/b:c"), Silent())]
            assert await import_caches(engine, sources, {}, told.append) == []
        return told

    warnings = [event.message for event in asyncio.run(work()) if isinstance(event, BuildWarning)]
    assert warnings == ["cannot import the cache from docker.io/a/b:c: no answer in 0 s"]


# --- layers that are not what was promised --------------------------------------------------------


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    need("docker-registry")
    with start_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.mark.registry
@pytest.mark.parametrize("how", ["half", "endless", "other", "refused", "none"])
def test_layers_that_are_not_as_promised_are_made_again(
    machines: Machines, registry: RegistryProcess, how: str
) -> None:
    path = f"hostile/{how}"
    machines.build(
        machines.fresh(), "--cache", f"{registry.host}/{path}:1", output="type=cacheonly"
    )
    spoilt: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        """Pass on all but layers."""
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, f"{registry.url}{request.path_qs}", headers=request.headers
            ) as asked,
        ):
            data = await asked.read()
            kept = {k: v for k, v in asked.headers.items() if k.startswith(("Docker", "Content-T"))}
            if "/blobs/" in request.path and not data.startswith(b"{") and request.method == "GET":
                spoilt.append(request.path)
                if how == "refused":
                    return web.Response(status=403)
                if how == "none":
                    return web.Response(status=404)
                body: Any = {"half": data[: len(data) // 2], "other": b"\0" * len(data)}.get(how)
                return web.Response(body=body or _endless(), headers=kept)
            if request.method == "HEAD":
                kept["Content-Length"] = asked.headers.get("Content-Length", "0")
            return web.Response(status=asked.status, body=data, headers=kept)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    with serving(application) as url:
        ref = f"{url.removeprefix('http://')}/{path}:1"
        found = machines.build(machines.fresh(), "--cache-from", ref)
    assert len(found.ran) == 2
    assert "its step runs" in found.log
    assert spoilt
    assert found.made.endswith("more\n")


def test_a_registry_that_only_fails_is_asked_a_few_times_in_a_build(machines: Machines) -> None:
    """Not thirty seconds for each of the importing, the carrying and the exporting."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        return web.Response(status=500)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    with serving(application) as url:
        place = f"{url.removeprefix('http://')}/down/cache:1"
        found = machines.build(machines.fresh(), "--cache", place)
    assert len(found.ran) == 2
    assert len(asked) <= 20, asked
    assert f"cannot import the cache from {place}" in found.log
    assert found.log.count("the cache was not exported") == 1
    assert "carrying to the cache" not in found.log.replace("carrying to the cache 0B", "")


def test_an_export_that_fails_the_build_is_told_once(machines: Machines) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=403)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    with serving(application) as url:
        to = f"type=registry,mode=max,ref={url.removeprefix('http://')}/down/cache:1"
        log = machines.build(machines.fresh(), "--cache-to", to, code=3).log
    assert "error: " in log
    assert "the cache was not exported" not in log


def test_a_directory_of_something_else_is_left_as_it_is(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    found = machines.build(machines.fresh(), "--cache", tmp_path / "mine")
    assert len(found.ran) == 2
    told = f"the cache will not be exported: {tmp_path}/mine is not empty and not an OCI layout"
    assert found.log.count(told) == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def test_a_cache_directory_that_cannot_be_is_refused_before_anything_is_built(
    machines: Machines, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    to = f"type=local,mode=max,dest={tmp_path}/file/cache"
    found = machines.build(machines.fresh(), "--cache-to", to, code=2)
    assert f"cache directory {tmp_path}/file/cache: {tmp_path}/file is not a directory" in found.log
    assert found.ran == []
