"""Images and caches that go to the stores of a client, and come from there, both ends real [7.3, 8]."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.cache.store import Store
from pybuild.client.content import BlobDirectory, content
from pybuild.daemon.builds.caches import SessionCache
from pybuild.daemon.builds.outputs import SessionSink
from pybuild.daemon.builds.trees import ClientTrees, NoDirectory
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.session.sessions import Session
from pybuild.engine.progress import InternalStep
from pybuild.exporter.built import MadeImage
from pybuild.exporter.output import Output
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.events import Event, VertexProgress
from tests.daemon.peers import connected, open_store
from tests.registry.fakes import WallClock

ABSENT = Digest.of(b"absent")
LAYER = b"a layer"


def put(folder: Path, data: bytes, media_type: str = "") -> Descriptor:
    """Put a blob into a client's directory."""
    digest = Digest.of(data)
    place = folder / "blobs/sha256"
    place.mkdir(parents=True, exist_ok=True)
    (place / digest.hex).write_bytes(data)
    return Descriptor(media_type, digest, len(data))


def with_client(
    folder: Path, work: Callable[[Session, Store], Awaitable[None]], *, offers: bool = True
) -> None:
    """Run *work* with the session of a client, whose directory is its store for all that it is asked."""
    there = BlobDirectory(str(folder), writable=True)
    handlers = content({"export": there, "local:d": there}) if offers else {}

    async def run() -> None:
        with open_store(folder.parent / "store") as store:
            async with connected(handlers) as session:
                await work(session, store)

    folder.mkdir(exist_ok=True)
    asyncio.run(run())


def cache(session: Session | None, store: Store, digest: Digest | None = None) -> SessionCache:
    images: Any = SimpleNamespace(lenders={})
    scope = SimpleNamespace(session=session, store=store, engine=SimpleNamespace(images=images))
    made = SessionCache(cast(Any, scope), "d", digest)
    assert list(images.lenders) == [made.place["layout"]]
    return made


class Shown:
    """A step whose transfers are kept: which blob, how far, of how much."""

    def __init__(self) -> None:
        self.moved: list[tuple[str, int, int]] = []
        self.step = InternalStep(ABSENT, self._show, WallClock())

    def _show(self, event: Event) -> None:
        assert isinstance(event, VertexProgress)
        self.moved.append((event.id, event.current, event.total))


# --- caches ---------------------------------------------------------------------------------------


def test_a_cache_needs_a_session(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, pytest.raises(UserError, match="requires session"):
        cache(None, store)


def test_the_root_of_a_cache_is_named_by_its_digest(tmp_path: Path) -> None:
    async def work(session: Session, store: Store) -> None:
        root = put(tmp_path / "client", b"{}")
        assert await cache(session, store, root.digest).root() == (root, b"{}")
        with pytest.raises(UserError, match="requires explicit digest"):
            await cache(session, store).root()
        with pytest.raises(UserError, match=f"^d: {ABSENT} not found"):
            await cache(session, store, ABSENT).root()

    with_client(tmp_path / "client", work)


def test_what_a_client_sends_is_measured_and_compared(tmp_path: Path) -> None:
    async def work(session: Session, store: Store) -> None:
        client = cache(session, store)
        blob = put(tmp_path / "client", b"12345")
        assert await client.read(blob, 5) == b"12345"
        with pytest.raises(EnvironmentFault, match="has 5 bytes, more than 4"):
            await client.read(blob, 4)
        # Its descriptor says less than what comes.
        with pytest.raises(EnvironmentFault, match="has more than 4 bytes"):
            await client.read(Descriptor("", blob.digest, 1), 4)
        (tmp_path / "client/blobs/sha256" / blob.digest.hex).write_bytes(b"54321")
        with pytest.raises(EnvironmentFault, match="the client sent something else"):
            await client.read(blob, 5)

    with_client(tmp_path / "client", work)


def test_a_layer_is_lent_to_the_store(tmp_path: Path) -> None:
    async def work(session: Session, store: Store) -> None:
        images: Any = SimpleNamespace(lenders={})
        engine = SimpleNamespace(images=images)
        SessionCache(cast(Any, SimpleNamespace(session=session, store=store, engine=engine)), "d")
        [lend] = images.lenders.values()
        blob = put(tmp_path / "client", LAYER)
        shown = Shown()
        await lend(blob, shown.step)
        assert store.blobs.read(blob.digest) == LAYER
        assert shown.moved[-1] == (blob.digest, len(LAYER), len(LAYER))
        with pytest.raises(UserError, match="not found"):
            await lend(Descriptor("", ABSENT, 1), shown.step)
        assert not store.blobs.has(ABSENT)

    with_client(tmp_path / "client", work)


def test_a_cache_goes_to_the_client(tmp_path: Path) -> None:
    async def work(session: Session, store: Store) -> None:
        client, shown = cache(session, store), Shown()
        digest = store.blobs.put(LAYER)
        blob = Descriptor("", digest, len(LAYER))
        await client.check()
        assert not await client.has(blob)
        await client.put(blob, shown.step)
        assert shown.moved == [(digest, len(LAYER), len(LAYER))]
        assert await client.has(blob)
        assert not await client.has(Descriptor("", digest, 1))
        assert await client.named() is None and await client.collect(0.0) == 0
        made = Descriptor(OCI_INDEX, store.blobs.put(b"{}"), 2)
        assert await client.finish(made, b"{}", cast(Any, None))
        assert sorted(os.listdir(tmp_path / "client/blobs/sha256")) == sorted(
            [digest.hex, made.digest.hex]
        )

    with_client(tmp_path / "client", work)


# --- images ---------------------------------------------------------------------------------------


def image(store: Store) -> Descriptor:
    """An image of one layer in the store."""

    def stored(data: bytes, media_type: str) -> dict[str, object]:
        digest = store.blobs.put(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    layer = stored(LAYER, "application/vnd.oci.image.layer.v1.tar")
    config = stored(b"{}", OCI_CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    data = json.dumps(manifest).encode()
    return Descriptor(OCI_MANIFEST, store.blobs.put(data), len(data))


def sink(session: Session, store: Store) -> SessionSink:
    return SessionSink(cast(Any, SimpleNamespace(session=session, store=store)), 0)


OUTPUT = Output(type="oci", attrs={"tar": "false"})


async def no_archive(_out: object) -> None:
    raise AssertionError("a store gets no archive")


def test_an_image_goes_to_a_store_of_the_client_once(tmp_path: Path) -> None:
    async def work(session: Session, store: Store) -> None:
        made = MadeImage(descriptor=image(store), image_id=ABSENT)
        for _ in range(2):
            shown = Shown()
            await sink(session, store).image(OUTPUT, made, (), cast(Any, no_archive), shown.step)
            # The manifest is the last: what it refers to is there by then.
            assert len(shown.moved) == 3 and shown.moved[-1][0] == made.descriptor.digest
            assert all(current == total for _, current, total in shown.moved)
        assert len(os.listdir(tmp_path / "client/blobs/sha256")) == 3

    with_client(tmp_path / "client", work)


def test_a_client_without_a_store_is_told(tmp_path: Path) -> None:
    async def work(session: Session, store: Store) -> None:
        made = MadeImage(descriptor=image(store), image_id=ABSENT)
        with pytest.raises(UserError, match="exporter oci with tar=false: the client offers no"):
            await sink(session, store).image(OUTPUT, made, (), cast(Any, no_archive), Shown().step)

    with_client(tmp_path / "client", work, offers=False)


def test_a_stream_to_a_client_may_not_begin_again(tmp_path: Path) -> None:
    async def work(session: Session, store: Store) -> None:
        assert not sink(session, store).is_repeatable(OUTPUT)

    with_client(tmp_path / "client", work)


# --- what a client may not --------------------------------------------------------------------------


def test_entitlements_are_those_of_the_server() -> None:
    server: Any = SimpleNamespace(settings=SimpleNamespace(entitlements={"network.host"}))
    assert BuildServer.grant(server, ["network.host"]) == {"network.host"}
    assert BuildServer.grant(server, []) == set()
    assert BuildServer.grant(server, ["device", "device=x", "network.host"]) == {"network.host"}
    server.settings.entitlements.add("device")
    assert BuildServer.grant(server, ["device=x"]) == {"device=x"}
    with pytest.raises(UserError, match=r"^granting entitlement security\.insecure is not allowed"):
        BuildServer.grant(server, ["network.host", "security.insecure"])


def test_files_of_a_directory_that_no_session_has() -> None:
    async def find(id: str) -> Session:
        raise AssertionError(id)

    async def run() -> None:
        trees = ClientTrees(None, find, cast(Any, None))
        with pytest.raises(NoDirectory, match='no session has the directory "dockerfile"'):
            await trees.files("dockerfile", ["Dockerfile"], 1, Shown().step)
        await trees.close()

    asyncio.run(run())
