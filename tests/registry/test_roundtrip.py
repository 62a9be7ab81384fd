"""Push and pull against the real registry [REG-11, REG-12, OUT-12]."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from pybuild.cache.store import Store
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.faults import UnresolvedImage
from pybuild.registry.client.pull import pull_image, resolve_image
from pybuild.registry.client.push import push_image
from pybuild.registry.client.upload import Pushed
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, WallClock, make_image, make_index
from tests.services import RegistryProcess

pytestmark = pytest.mark.registry

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
LAYERS = (b"first layer" * 1000, b"second" * 300_000)


def test_what_was_pushed_is_pulled_again(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    image = make_image(blobs, *LAYERS)
    one = Reference.parse(f"{registry.host}/{repository}:one")
    two = Reference.parse(f"{registry.host}/{repository}:two")
    seen: list[tuple[str, int, int]] = []

    async def work() -> None:
        async with client() as c:
            await push_image(
                c, blobs, image, [one, two], progress=lambda i, n, of: seen.append((i, n, of))
            )
            assert await c.resolve(two) == Descriptor(image.media_type, image.digest, image.size)
            pulled = await pull_image(c, other_blobs, one, AMD64, layers=True)
            assert pulled.manifest.digest == image.digest
            assert pulled.pinned == one.with_digest(image.digest)
            assert [layer.digest for layer in pulled.layers] == [Digest.of(x) for x in LAYERS]
            assert sorted(await c.tags(one)) == ["one", "two"]  # the server keeps no order
            assert await c.blob_exists(one, pulled.layers[0])
            assert not await c.blob_exists(one, Descriptor("x", Digest.of(b"nobody has this"), 3))

    run(work())
    for layer in LAYERS:
        assert other_blobs.read(Digest.of(layer)) == layer
    assert other_blobs.leftovers() == []
    big = str(Digest.of(LAYERS[1]))
    assert (big, len(LAYERS[1]), len(LAYERS[1])) in seen


def test_a_blob_that_is_there_is_not_sent_again(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs
) -> None:
    """[OUT-12] also without knowing where: a HEAD decides."""
    layer = blobs.put(b"shared" * 1000)
    descriptor = Descriptor("application/x", layer, 6000)
    first = Reference.parse(f"{registry.host}/{repository}")
    second = Reference.parse(f"{registry.host}/{repository}-b")

    async def work() -> list[Pushed]:
        async with client() as c:
            return [
                await c.push_blob(first, descriptor, blobs),
                await c.push_blob(first, descriptor, blobs),
                await c.push_blob(second, descriptor, blobs, ["no/such", repository]),
            ]

    assert run(work()) == [Pushed.UPLOADED, Pushed.PRESENT, Pushed.MOUNTED]


def test_chunked_upload_arrives_whole(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs
) -> None:
    data = bytes(range(256)) * 4000
    descriptor = Descriptor("application/x", blobs.put(data), len(data))
    reference = Reference.parse(f"{registry.host}/{repository}")

    async def work() -> bytes:
        async with client(chunk_bytes=300_000) as c:
            assert await c.push_blob(reference, descriptor, blobs) is Pushed.UPLOADED
            return await c.blob(reference, descriptor)

    assert run(work()) == data


def test_empty_blob_goes_there_and_back(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    descriptor = Descriptor("application/x", blobs.put(b""), 0)
    reference = Reference.parse(f"{registry.host}/{repository}")

    async def work() -> None:
        async with client() as c:
            await c.push_blob(reference, descriptor, blobs)
            await c.pull_blob(reference, descriptor, other_blobs)

    run(work())
    assert other_blobs.read(descriptor.digest) == b""


def test_index_is_pushed_after_its_children_and_chosen_from_by_platform(
    registry: RegistryProcess,
    repository: str,
    blobs: DirectoryBlobs,
    other_blobs: DirectoryBlobs,
) -> None:
    """[OUT-13, IMG-20]"""
    shared = b"shared layer"
    amd = make_image(blobs, shared, b"amd", platform=AMD64)
    arm = make_image(blobs, shared, b"arm", platform=ARM64)
    index = make_index(blobs, amd, arm)
    reference = Reference.parse(f"{registry.host}/{repository}:multi")

    async def work() -> None:
        async with client() as c:
            await push_image(c, blobs, index, [reference])
            found = await pull_image(c, other_blobs, reference, ARM64, layers=False)
            assert (found.root.digest, found.manifest.digest) == (index.digest, arm.digest)
            assert found.manifest.platform == ARM64
            with pytest.raises(UserError) as caught:
                await resolve_image(c, reference, Platform.parse("linux/s390x"))
            assert caught.value.message == (
                f"failed to resolve source metadata for {reference}: "
                "no match for platform linux/s390x in manifest: not found"
            )
            assert caught.value.hints == (
                "the image has linux/amd64, linux/arm64: take one with --platform, or another image",
            )

    run(work())
    assert other_blobs.has(index.digest) and other_blobs.has(arm.digest)
    assert not other_blobs.has(Digest.of(b"arm"))


def test_push_by_digest_leaves_no_tag(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs
) -> None:
    """[OUT-12]"""
    image = make_image(blobs, b"layer")
    reference = Reference.parse(f"{registry.host}/{repository}")

    async def work() -> None:
        async with client() as c:
            await push_image(c, blobs, image, [reference], push_by_digest=True)
            pinned = Reference(reference.host, reference.path, None, image.digest)
            assert (await c.resolve(pinned)).digest == image.digest
            with pytest.raises(UnresolvedImage):
                await c.resolve(reference)

    run(work())


def test_second_repository_mounts_what_the_first_got(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs
) -> None:
    image = make_image(blobs, b"only once over the wire" * 100)
    names = [Reference.parse(f"{registry.host}/{repository}{end}:1") for end in ("", "-copy")]

    async def work() -> None:
        async with client() as c:
            await push_image(c, blobs, image, names)

    run(work())
    lines = registry.log.read_text().splitlines()
    mounts = [x for x in lines if f"/{repository}-copy/blobs/uploads/?mount=" in x]
    assert mounts and not any(f"PUT /v2/{repository}-copy/blobs/" in x for x in lines)


def test_missing_image_has_the_wording_people_grep_for(registry: RegistryProcess) -> None:
    """dockerfile.md section 17"""
    reference = Reference.parse(f"{registry.host}/no/such:tag")

    async def work() -> None:
        async with client() as c:
            for ask in (c.resolve, c.manifest):
                with pytest.raises(UnresolvedImage) as caught:
                    await ask(reference)
                assert caught.value.message == (
                    f"failed to resolve source metadata for {reference}: {reference}: not found"
                )

    run(work())


def test_missing_blob_names_request_and_code(
    registry: RegistryProcess, repository: str, other_blobs: DirectoryBlobs
) -> None:
    reference = Reference.parse(f"{registry.host}/{repository}")
    digest = Digest.of(b"absent")

    async def work() -> None:
        async with client() as c:
            with pytest.raises(HttpFault) as caught:
                await c.pull_blob(reference, Descriptor("x", digest, 6), other_blobs)
            assert caught.value.message == (
                f"pull {registry.host}/{repository}: GET /v2/{repository}/blobs/{digest}: "
                "404 BLOB_UNKNOWN: blob unknown to registry"
            )

    run(work())


@pytest.mark.slow
def test_the_real_store_is_a_sink_and_a_source(
    registry: RegistryProcess, repository: str, blobs: DirectoryBlobs, tmp_path: Path
) -> None:
    """Pull into the store of `cache` on uvloop, verify there, push from it."""
    image = make_image(blobs, *LAYERS)
    one = Reference.parse(f"{registry.host}/{repository}:one")
    two = Reference.parse(f"{registry.host}/{repository}-two:two")
    store = Store.open(tmp_path / "store", WallClock())

    async def work() -> None:
        stored = store.blobs
        async with client() as c:
            await push_image(c, blobs, image, [one])
            pulled = await pull_image(c, stored, one, AMD64, layers=True)
            for layer in pulled.layers:
                assert store.blobs.verify(layer.digest)
            await push_image(c, stored, pulled.manifest, [two])
            assert (await c.resolve(two)).digest == image.digest
            lie = Descriptor("x", Digest.of(b"x" * len(LAYERS[0])), len(LAYERS[0]))
            with pytest.raises(HttpFault, match="404 BLOB_UNKNOWN"):
                await c.pull_blob(one, lie, stored)
            assert not stored.has(lie.digest)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())
    finally:
        store.close()


def test_name_with_a_digest_is_not_pushed_to(blobs: DirectoryBlobs) -> None:
    """[OUT-18]"""
    image = make_image(blobs)
    name = Reference.parse(f"localhost/x@{image.digest}")

    async def work() -> None:
        async with client() as c:
            with pytest.raises(UserError, match="cannot have a digest"):
                await push_image(c, blobs, image, [name])

    run(work())
