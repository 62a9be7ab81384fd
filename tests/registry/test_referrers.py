"""Manifests that refer to an image, at registries that know the question and at others [end-9, end-12a]."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from pybuild.registry.client.faults import ContentFault, UnresolvedImage
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.push import push_image
from pybuild.registry.client.referrers import Referrer, list_of, read_list, subject_of, tag_of
from tests.needs import need
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs, make_image
from tests.registry.server.serving import served
from tests.registry.servers import serve
from tests.services import start_registry

EMPTY = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2)


def artifact(subject: Descriptor, kind: str, text: bytes) -> bytes:
    layer = Descriptor("text/plain", Digest.of(text), len(text)).to_json()
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": EMPTY.to_json(),
        "layers": [layer],
        "subject": Descriptor(subject.media_type, subject.digest, subject.size).to_json(),
        "annotations": {"note": text.decode()},
    }
    return json.dumps(body).encode()


async def push_artifact(c: Client, blobs: DirectoryBlobs, at: Reference, data: bytes) -> Digest:
    for layer in json.loads(data)["layers"]:
        await c.push_blob(at, Descriptor.from_json(layer), blobs)
    await c.push_blob(at, EMPTY, blobs)
    return (await c.push_manifest(Reference(at.host, at.path), OCI_MANIFEST, data)).digest


@asynccontextmanager
async def host_of(kind: str, path: Path) -> AsyncGenerator[str]:
    """Our own server, which lists referrers, or one of before they were thought of."""
    if kind == "knows":
        async with served(path / "store") as ours:
            yield ours.host
        return
    need("docker-registry")
    with start_registry(path) as registry:
        yield registry.host


@pytest.mark.registry
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["knows", "knows-not"])
def test_referrers_are_listed_and_leave_the_list_when_deleted(
    tmp_path: Path, blobs: DirectoryBlobs, kind: str
) -> None:
    image = make_image(blobs, b"layer")
    for text in (b"{}", b"one", b"two"):
        blobs.put(text)
    one, two = artifact(image, "a/sbom", b"one"), artifact(image, "a/signature", b"two")

    async def work() -> None:
        async with host_of(kind, tmp_path) as host, client() as c:
            at = Reference.parse(f"{host}/refers/app:1")
            await push_image(c, blobs, image, [at])
            assert await c.referrers(at, image.digest) == []
            first = await push_artifact(c, blobs, at, one)
            second = await push_artifact(c, blobs, at, two)
            await push_artifact(c, blobs, at, two)
            found = {r.descriptor.digest: r for r in await c.referrers(at, image.digest)}
            assert set(found) == {first, second}
            assert found[first].artifact_type == "a/sbom"
            assert found[first].descriptor.annotations == {"note": "one"}
            tags = ["1"] if kind == "knows" else ["1", tag_of(image.digest)]
            assert sorted(await c.tags(at)) == sorted(tags)

            await c.delete(Reference(at.host, at.path, digest=first))
            [left] = await c.referrers(at, image.digest)
            assert left.descriptor.digest == second
            with pytest.raises(UnresolvedImage, match="^delete .*@sha256:.*: not found"):
                await c.delete(Reference(at.host, at.path, digest=first))

    run(work(), 60)


@pytest.mark.registry
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["knows", "knows-not"])
def test_a_tag_goes_alone_where_the_registry_can(
    tmp_path: Path, blobs: DirectoryBlobs, kind: str
) -> None:
    image = make_image(blobs, b"layer")

    async def work() -> None:
        async with host_of(kind, tmp_path) as host, client() as c:
            names = [Reference.parse(f"{host}/refers/app:{tag}") for tag in "12"]
            await push_image(c, blobs, image, names)
            if kind == "knows":
                await c.delete(names[0])
                assert await c.tags(names[0]) == ["2"]
            else:
                with pytest.raises(HttpFault) as caught:
                    await c.delete(names[0])
                assert (
                    "registries that delete no tags may delete NAME@DIGEST" in caught.value.hints[0]
                )
            await c.delete(Reference(host, "refers/app", digest=image.digest))
            with pytest.raises(UnresolvedImage):
                await c.resolve(names[1])

    run(work(), 60)


def test_pages_of_referrers_are_followed_and_other_hosts_are_not() -> None:
    entries = [
        Referrer(Descriptor(OCI_MANIFEST, Digest.of(bytes([n])), 7), f"kind/{n}") for n in range(3)
    ]
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        page = int(request.query.get("page", "0"))
        following = f"{request.path}?page={page + 1}" if page < 2 else "http://evil.example/v2/"
        return web.Response(
            body=list_of([entries[page]]),
            headers={"Content-Type": OCI_INDEX, "Link": f'<{following}>; rel="next"'},
        )

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            assert await c.referrers(Reference.parse(f"{host}/a/b"), Digest.of(b"x")) == entries

    run(work())
    assert len(asked) == 3


def test_a_registry_that_refuses_is_not_taken_for_one_that_does_not_know() -> None:
    """A list that we may not read is not an empty list, which the next push would write."""

    async def handler(request: web.Request) -> web.StreamResponse:
        status = 403 if "/manifests/" in request.path else 404
        return web.Response(status=status)

    async def work() -> None:
        async with serve(handler) as host, client(Hosts({host: {"http": True}})) as c:
            with pytest.raises(HttpFault, match="403 DENIED"):
                await c.referrers(Reference.parse(f"{host}/a/b"), Digest.of(b"x"))

    run(work())


@pytest.mark.parametrize(
    "data", [b"[]", b"{}", b'{"manifests": 1}', b'{"manifests": [1]}', b'{"manifests": [{}]}']
)
def test_broken_lists_are_refused(data: bytes) -> None:
    with pytest.raises(ContentFault):
        read_list("referrers", data)


def test_what_a_manifest_refers_to_and_is() -> None:
    subject = Descriptor(OCI_MANIFEST, Digest.of(b"x"), 7)
    data = artifact(subject, "", b"t")
    found = subject_of(data, OCI_MANIFEST)
    assert found is not None and found[0] == subject.digest
    assert found[1].artifact_type == EMPTY.media_type, "the config's type stands in [end-12a]"
    assert subject_of(b'{"subject": null}', OCI_MANIFEST) is None
    with pytest.raises(ContentFault, match="subject"):
        subject_of(b'{"subject": {"digest": 1}}', OCI_MANIFEST)
    long = Digest("sha512:" + "ab" * 64)
    assert tag_of(long) == "sha512-" + "ab" * 32
