"""Needless blobs go while the server serves, and nothing else; the work is counted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pybuild.cache.repositories.collect import Keeping
from pybuild.cache.store import Store
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.metrics import Metrics
from pybuild.registry.server.serving import collect
from pybuild.registry.server.settings import RegistrySettings
from tests.registry.conftest import run
from tests.registry.fakes import WallClock
from tests.registry.server.serving import served

NOW = RegistrySettings(keeping=Keeping(blobs=0.0, released=0.0), collect_every_s=0.0, grace_s=0.2)


def test_a_deleted_image_goes_and_what_is_being_pushed_stays(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            await one.push_image("a", "v1", b"old layer")
            kept = await one.push_image("b", "v1", b"kept layer")
            fresh = await one.push_blob("a", b"just pushed")
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            await one.ask("PATCH", place, b"half of it")
            await one.ask("DELETE", "/v2/a/manifests/v1")
            hosting = Hosting(one.store, RegistrySettings(keeping=Keeping(released=0.0)))
            assert await asyncio.to_thread(collect, hosting)
            assert hosting.metrics.collected["manifests",] == 1
            assert (await one.ask("GET", f"/v2/a/blobs/{fresh}")).status == 200
            assert (await one.ask("GET", place)).headers["Range"] == "0-9"
            assert (await one.ask("GET", "/v2/b/manifests/v1")).headers[
                "Docker-Content-Digest"
            ] == kept
            # As if the time of a push had gone by for all of it.
            hosting = Hosting(one.store, NOW)
            await asyncio.to_thread(collect, hosting)
            left = {one.store.blobs.read(digest) for digest, _ in one.store.blobs.list()}
            assert {data for data in left if b"schemaVersion" not in data} == {b"{}", b"kept layer"}

    run(work())


def test_blobs_of_the_builder_are_not_the_servers_to_free(tmp_path: Path) -> None:
    """A record names what a build may use again."""
    with Store.open(tmp_path, WallClock()) as store:
        with store.view() as view:
            used, lost = view.blobs.put(b"used again"), view.blobs.put(b"lost")
            store.records.put("explanation", "x", {"blob": used})
            collect(Hosting(store, NOW))
            assert store.blobs.has(lost), "leased by who has just written it"
        collect(Hosting(store, NOW))
        assert store.blobs.has(used)
        assert not store.blobs.has(lost)


def test_an_upload_that_nobody_continues_goes_after_a_day(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            place = (await one.ask("POST", "/v2/a/blobs/uploads/")).headers["Location"]
            folder = tmp_path / "registry" / "uploads"
            [path] = folder.iterdir()
            hosting = Hosting(one.store, RegistrySettings())
            collect(hosting)
            assert (await one.ask("GET", place)).status == 204
            yesterday = path.stat().st_mtime - 90_000
            os.utime(path, (yesterday, yesterday))
            with hosting.spool.open(place.rpartition("/")[2], one.store.repositories["a"]):
                collect(hosting)
                assert path.exists(), "somebody is writing to it"
            collect(hosting)
            assert (await one.ask("GET", place)).status == 404

    run(work())


def test_only_one_process_collects_at_a_time(tmp_path: Path) -> None:
    with Store.open(tmp_path, WallClock()) as store:
        hosting = Hosting(store, NOW)
        assert collect(hosting)
        import fcntl

        fd = os.open(tmp_path / "locks" / "registry-collection", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert not collect(hosting)
        os.close(fd)
        assert collect(hosting)


def test_numbers_are_told_at_an_address_of_their_own(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            await one.push_image("a", "v1")
            await one.ask("STRANGE", "/v2/")
            assert (await one.ask("GET", "/metrics")).status == 404

    run(work())
    metrics = Metrics()
    metrics.answered("blob", "GET", 200, 0.3, 100)
    metrics.answered("blob", "GET", 200, 99.0, 100)
    metrics.collected["manifests",] += 2
    text = metrics.text({"uploads": ("Uploads.", 3.0)})
    assert 'pybuild_registry_requests_total{kind="blob",method="GET",status="200"} 2\n' in text
    assert 'request_seconds_bucket{kind="blob",method="GET",le="0.25"} 0\n' in text
    assert 'request_seconds_bucket{kind="blob",method="GET",le="0.5"} 1\n' in text
    assert 'request_seconds_bucket{kind="blob",method="GET",le="+Inf"} 2\n' in text
    assert "pybuild_registry_answered_bytes_total 200\n" in text
    assert 'pybuild_registry_collected_total{what="manifests"} 2\n' in text
    assert "# TYPE pybuild_registry_uploads gauge\npybuild_registry_uploads 3\n" in text
