"""Disks that fill up, collection while pushing, and whatever anybody may send: nothing half-stored, no traceback."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.repositories.collect import Keeping
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.registry.server import pushedmanifest
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.ranges import chunk_of
from pybuild.registry.server.refusal import Refusal
from pybuild.registry.server.routes import understand
from pybuild.registry.server.serving import collect
from pybuild.registry.server.settings import RegistrySettings
from tests.registry.conftest import run
from tests.registry.fakes import WallClock
from tests.registry.server.serving import Served, image, served_from

pytestmark = pytest.mark.slow


class FullDisk(Disk):
    """A disk that is full from the n-th change on, until it is *mended*."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after
        self.mended = False

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.mended:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def create(self, path: str, mode: int = 0o600) -> int:
        self._spend()
        return super().create(path, mode)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        self._spend()
        super().write(fd, data)

    def rename(self, source: str, target: str) -> None:
        self._spend()
        super().rename(source, target)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        self._spend()
        super().mkdir(path, mode)

    def flush(self, fd: int) -> None:
        self._spend()
        super().flush(fd)


def test_a_disk_that_is_full_at_any_moment_of_a_push_costs_the_push_alone(tmp_path: Path) -> None:
    """Each answer is 507; what was acknowledged is whole; the same push succeeds once there is space."""

    async def work() -> None:
        for after in range(60):
            root = tmp_path / str(after)
            with Store.open(root, WallClock()):
                pass  # made while there is space
            disk = FullDisk(1_000_000)
            with Store.open(root, WallClock(), disk=disk) as store:
                async with served_from(store) as one:
                    disk.left = after
                    failed = await pushed_or_refused(one)
                    disk.mended = True
                    for digest, _ in store.blobs.list():
                        assert store.blobs.verify(digest)
                    for repository in store.repositories:
                        for digest in (*repository.blobs(), *repository.manifests()):
                            assert store.blobs.has(digest), "a link without its blob"
                        for tag in repository.tags():
                            answer = await one.ask("GET", f"/v2/a/manifests/{tag}")
                            assert answer.status == 200
                    assert await pushed_or_refused(one) is None
                    assert (await one.ask("GET", "/v2/a/manifests/v1")).status == 200
            if failed is None:
                assert after > 10, "each change of the disk was failed once"
                return
            assert failed == 507
        raise AssertionError("a push changes the disk more often than was thought")

    run(work(), 60)


async def pushed_or_refused(one: Served) -> int | None:
    """Push an image; return the status of the first refusal."""
    layer = b"layer"
    digest = Digest.of(layer)
    begun = await one.ask("POST", "/v2/a/blobs/uploads/")
    if begun.status != 202:
        return begun.status
    place = begun.headers["Location"]
    for method, data, query in (("PATCH", layer, ""), ("PUT", b"", f"?digest={digest}")):
        answer = await one.ask(method, place + query, data)
        if answer.status not in (201, 202):
            return answer.status
    config = Digest.of(b"{}")
    answer = await one.ask("POST", f"/v2/a/blobs/uploads/?digest={config}", b"{}")
    if answer.status != 201:
        return answer.status
    answer = await one.put("a", "v1", image(config, [digest]))
    return None if answer.status == 201 else answer.status


class Turned:
    """The real time, and what it was turned forward by."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


def test_collection_never_takes_what_is_being_pushed(tmp_path: Path) -> None:
    """Pushes, deletions and collections all at once: what was acknowledged and not deleted is there.

    Between some pushes, and never during one, the time of a push goes by: so links do get old,
    and are collected while the next push finds them or brings them again.
    """
    pushers, clock = 4, Turned()

    async def work() -> None:
        with Store.open(tmp_path, clock) as store:
            async with served_from(store) as one:
                keeping = Keeping(released=0.0, blobs=3600.0)
                hosting = Hosting(store, RegistrySettings(keeping=keeping))
                between = asyncio.Barrier(pushers)
                going = True

                async def collector() -> int:
                    count = 0
                    while going:
                        await asyncio.to_thread(collect, hosting)
                        count += 1
                    return count

                async def pusher(number: int) -> None:
                    chance = random.Random(number)
                    for turn in range(12):
                        if turn % 3 == 2:
                            if await between.wait() == 0:
                                clock.ahead += 3600.0
                            await between.wait()
                        tag = f"v{number}-{turn % 3}"
                        # Few layers, so that what one lets go of another pushes, or finds.
                        layer = b"shared %d" % chance.randrange(4)
                        digest = await push(one, tag, layer, ask=chance.random() < 0.5)
                        answer = await one.ask("GET", f"/v2/a/manifests/{tag}")
                        assert answer.headers["Docker-Content-Digest"] == digest
                        blob = await one.ask("GET", f"/v2/a/blobs/{Digest.of(layer)}")
                        assert blob.body == layer
                        if chance.random() < 0.7:
                            gone = await one.ask("DELETE", f"/v2/a/manifests/{tag}")
                            assert gone.status == 202

                collecting = asyncio.create_task(collector())
                await asyncio.gather(*(pusher(number) for number in range(pushers)))
                going = False
                assert await collecting > 1
                assert hosting.metrics.collected["links",] > 0
                for tag in store.repositories["a"].tags():
                    manifest = (await one.ask("GET", f"/v2/a/manifests/{tag}")).json
                    for part in (manifest["config"], *manifest["layers"]):
                        assert (await one.ask("GET", f"/v2/a/blobs/{part['digest']}")).status == 200

    run(work(), 90)


async def push(one: Served, tag: str, layer: bytes, ask: bool) -> Digest:
    """Push an image of one layer; with *ask*, do not send what the registry says to have."""
    for data in (b"{}", layer):
        path = f"/v2/a/blobs/{Digest.of(data)}"
        if not ask or (await one.ask("HEAD", path)).status != 200:
            await one.push_blob("a", data)
    document = image(Digest.of(b"{}"), [Digest.of(layer)])
    document["layers"][0]["size"] = len(layer)
    answer = await one.put("a", tag, document)
    assert answer.status == 201, answer
    return Digest(answer.headers["Docker-Content-Digest"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
fields = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations"]
    + ["artifactType", "digest", "size", "platform", "fsLayers", "urls"]
)
documents = st.dictionaries(
    fields,
    json_values
    | st.just(2)
    | st.sampled_from(["application/vnd.oci.image.manifest.v1+json", "sha256:" + "a" * 64])
    | st.lists(st.dictionaries(fields, json_values | st.just("sha256:" + "a" * 64)), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(documents, st.sampled_from(["", "application/vnd.oci.image.index.v1+json", "x"]))
def test_any_json_is_a_manifest_or_refused(document: Any, content_type: str) -> None:
    data = json.dumps(document).encode()
    try:
        read, entry = pushedmanifest.read(data, content_type, None)
        pushedmanifest.check_content(read, lambda digest: None, lambda digest: None)
    except Refusal as refusal:
        assert refusal.status == 400
        assert json.loads(refusal.body)["errors"]
    else:
        assert entry.descriptor.digest == Digest.of(data)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["GET", "PUT", "POST", "\u00fc"]), st.text(max_size=60) | st.binary().map(repr)
)
def test_any_path_is_understood_or_refused(method: str, path: str) -> None:
    for whole in (
        path,
        f"/v2/{path}",
        f"/v2/{path}/manifests/{path}",
        f"/v2/a/blobs/uploads/{path}",
    ):
        try:
            call = understand(method, whole)
        except Refusal as refusal:
            assert refusal.status in (400, 404, 405)
        else:
            assert ".." not in call.name.split("/")
            assert "/" not in call.tag


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"\d+-\d+"), st.none() | st.integers(0, 10**19))
def test_any_range_is_understood_or_refused(text: str, length: int | None) -> None:
    try:
        chunk = chunk_of(text, length)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert chunk.length is None or chunk.length >= 0
