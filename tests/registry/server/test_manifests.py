"""Manifests, tags and what refers to them; what is wrong with one is said by code [end-3, end-7..9, end-12]."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.model.digest import Digest
from pybuild.registry.server.settings import ClientLimits, RegistrySettings
from tests.registry.conftest import run
from tests.registry.server.serving import (
    EMPTY,
    Served,
    described,
    descriptor,
    encoded,
    image,
    index,
    served,
    sha512,
)


async def an_image(one: Served, name: str = "a", **more: Any) -> dict[str, Any]:
    """A manifest whose content is in the repository."""
    config, layer = await one.push_blob(name, EMPTY), await one.push_blob(name, b"layer")
    return image(config, [layer], **more)


def test_a_manifest_comes_back_to_the_byte(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            document = await an_image(one)
            data = b" " + encoded(document) + b"\n"
            headers = {"Content-Type": document["mediaType"] + "; charset=utf-8"}
            put = await one.ask("PUT", "/v2/a/manifests/v1", data, headers)
            digest = Digest.of(data)
            assert (put.status, put.headers["Docker-Content-Digest"]) == (201, digest)
            assert put.headers["Location"] == "/v2/a/manifests/v1"
            for reference in ("v1", digest):
                got = await one.ask("GET", f"/v2/a/manifests/{reference}")
                assert (got.status, got.body) == (200, data)
                assert got.headers["Content-Type"] == document["mediaType"]
                assert got.headers["Docker-Content-Digest"] == digest
                head = await one.ask("HEAD", f"/v2/a/manifests/{reference}")
                assert (head.status, head.body) == (200, b"")
                assert head.headers["Content-Length"] == str(len(data))
            same = await one.ask(
                "GET", "/v2/a/manifests/v1", headers={"If-None-Match": f'"{digest}"'}
            )
            assert same.status == 304

    run(work())


def test_a_manifest_by_its_sha512_with_tags(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            document = await an_image(one)
            digest = sha512(encoded(document))
            headers = {"Content-Type": document["mediaType"]}
            path = f"/v2/a/manifests/{digest}?tag=1.2&tag=1&tag=latest"
            put = await one.ask("PUT", path, encoded(document), headers)
            assert (put.status, put.headers["OCI-Tag"]) == (201, "1.2, 1, latest")
            got = await one.ask("GET", "/v2/a/manifests/1.2")
            assert got.headers["Docker-Content-Digest"] == digest

    run(work())


def broken(document: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**document, **changes}).encode()


MISSING = "sha256:" + "0" * 64


BROKEN: list[tuple[Callable[[dict[str, Any]], bytes], str]] = [
    (lambda m: b"", "MANIFEST_INVALID"),
    (lambda m: b"[]", "MANIFEST_INVALID"),
    (lambda m: b"{" * 100_000, "MANIFEST_INVALID"),
    (lambda m: b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "MANIFEST_INVALID"),
    (lambda m: encoded(m)[:-1], "MANIFEST_INVALID"),
    (lambda m: broken(m, schemaVersion=1), "MANIFEST_INVALID"),
    (lambda m: broken(m, manifests=[]), "MANIFEST_INVALID"),
    (lambda m: broken(m, config=None), "MANIFEST_INVALID"),
    (lambda m: broken(m, layers={}), "MANIFEST_INVALID"),
    (lambda m: broken(m, layers=[{"digest": "../../x"}]), "MANIFEST_INVALID"),
    (lambda m: broken(m, mediaType="text/plain"), "MANIFEST_INVALID"),
    (lambda m: broken(m, mediaType=described(index([]))["mediaType"]), "MANIFEST_INVALID"),
    (lambda m: broken(m, subject={"digest": 7}), "MANIFEST_INVALID"),
    (lambda m: broken(m, annotations=[7]), "MANIFEST_INVALID"),
    (lambda m: broken(m, config={**m["config"], "size": 3}), "MANIFEST_INVALID"),
    (lambda m: broken(m, layers=[descriptor("x", MISSING, 1)]), "MANIFEST_BLOB_UNKNOWN"),
    (lambda m: broken(m, config=descriptor("x", MISSING, 1)), "MANIFEST_BLOB_UNKNOWN"),
]


@pytest.mark.parametrize(("change", "code"), BROKEN)
def test_a_manifest_that_cannot_be_is_refused_and_not_kept(
    tmp_path: Path, change: Callable[[dict[str, Any]], bytes], code: str
) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            document = await an_image(one)
            before = sorted(digest for digest, _ in one.store.blobs.list())
            headers = {"Content-Type": document["mediaType"]}
            answer = await one.ask("PUT", "/v2/a/manifests/v1", change(document), headers)
            assert (answer.status, answer.code) == (400, code)
            assert (await one.ask("GET", "/v2/a/manifests/v1")).status == 404
            assert sorted(digest for digest, _ in one.store.blobs.list()) == before

    run(work())


def test_a_manifest_by_another_digest_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            answer = await one.put("a", MISSING, await an_image(one))
            assert (answer.status, answer.code) == (400, "DIGEST_INVALID")

    run(work())


def test_a_manifest_over_the_limit_is_refused(tmp_path: Path) -> None:
    settings = RegistrySettings(limits=ClientLimits(manifest_bytes=5000), grace_s=0.2)

    async def work() -> None:
        async with served(tmp_path, settings) as one:
            document = await an_image(one, annotations={"padding": "x" * 6000})
            answer = await one.put("a", "v1", document)
            assert (answer.status, answer.code) == (413, "SIZE_INVALID")

    run(work())


def test_layers_that_lie_elsewhere_need_not_be_here(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            document = await an_image(one)
            foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            document["layers"].append(descriptor(foreign, MISSING, 7))
            assert (await one.put("a", "v1", document)).status == 201

    run(work())


def test_an_index_needs_its_manifests(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            child = await an_image(one)
            parent = index([described(child)])
            early = await one.put("a", "v1", parent)
            assert (early.status, early.code) == (400, "MANIFEST_BLOB_UNKNOWN")
            assert (await one.put("a", described(child)["digest"], child)).status == 201
            assert (await one.put("a", "v1", parent)).status == 201
            other = await one.put("b", "v1", parent)
            assert other.code == "MANIFEST_BLOB_UNKNOWN"

    run(work())


def test_a_tag_can_be_deleted_alone_and_a_manifest_with_its_tags(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            digest = await one.push_image("a", "v1")
            await one.push_image("a", "v2")
            assert (await one.ask("DELETE", "/v2/a/manifests/v1")).status == 202
            assert (await one.ask("GET", "/v2/a/manifests/v1")).status == 404
            assert (await one.ask("GET", f"/v2/a/manifests/{digest}")).status == 200
            assert (await one.ask("DELETE", f"/v2/a/manifests/{digest}")).status == 202
            gone = await one.ask("GET", "/v2/a/manifests/v2")
            assert (gone.status, gone.code) == (404, "MANIFEST_UNKNOWN")
            assert (await one.ask("GET", "/v2/a/tags/list")).json == {"name": "a", "tags": []}
            again = await one.ask("DELETE", f"/v2/a/manifests/{digest}")
            assert (again.status, again.code) == (404, "MANIFEST_UNKNOWN")
            nowhere = await one.ask("DELETE", f"/v2/z/manifests/{digest}")
            assert (nowhere.status, nowhere.code) == (404, "NAME_UNKNOWN")

    run(work())


def test_where_nothing_can_be_deleted_all_else_can_be_done(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path, RegistrySettings(deletion=False, grace_s=0.2)) as one:
            digest = await one.push_image("a", "v1")
            assert (await one.ask("GET", "/v2/a/manifests/v1")).status == 200
            for name in ("v1", digest):
                refused = await one.ask("DELETE", f"/v2/a/manifests/{name}")
                assert (refused.status, refused.code) == (405, "UNSUPPORTED")
                assert b"nothing can be deleted from this registry" in refused.body
            assert (await one.ask("GET", "/v2/a/tags/list")).json["tags"] == ["v1"]

    run(work())


@pytest.mark.slow
def test_tags_and_repositories_are_listed_in_pages(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            for name, tag in (("b/c", "v1"), ("b", "v1"), ("a", "v10"), ("a", "V2"), ("a", "v1")):
                await one.push_image(name, tag)
            tags = await one.ask("GET", "/v2/a/tags/list")
            assert tags.json == {"name": "a", "tags": ["V2", "v1", "v10"]}
            first = await one.ask("GET", "/v2/a/tags/list?n=2")
            assert first.json["tags"] == ["V2", "v1"]
            assert first.headers["Link"] == '</v2/a/tags/list?n=2&last=v1>; rel="next"'
            rest = await one.ask("GET", "/v2/a/tags/list?n=2&last=v1")
            assert rest.json["tags"] == ["v10"]
            assert "Link" not in rest.headers
            names = await one.ask("GET", "/v2/_catalog?n=2")
            assert names.json == {"repositories": ["a", "b"]}
            assert names.headers["Link"] == '</v2/_catalog?n=2&last=b>; rel="next"'
            unknown = await one.ask("GET", "/v2/z/tags/list")
            assert (unknown.status, unknown.code) == (404, "NAME_UNKNOWN")

    run(work())


def test_referrers_say_what_they_are(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            subject = await an_image(one)
            about = described(subject)
            documents = [
                await an_image(one, subject=about, artifactType="x/sbom", annotations={"k": "v"}),
                await an_image(one, subject=about),
                index([], subject=about),
            ]
            for document in documents:  # the subject comes last: they may come first
                digest = described(document)["digest"]
                put = await one.put("a", digest, document)
                assert (put.status, put.headers["OCI-Subject"]) == (201, about["digest"])
            await one.put("a", "v1", subject)
            answer = await one.ask("GET", f"/v2/a/referrers/{about['digest']}")
            assert answer.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
            found = {entry["digest"]: entry for entry in answer.json["manifests"]}
            sbom, plain, listing = (described(document) for document in documents)
            assert found == {
                sbom["digest"]: {**sbom, "annotations": {"k": "v"}, "artifactType": "x/sbom"},
                plain["digest"]: {**plain, "artifactType": subject["config"]["mediaType"]},
                listing["digest"]: listing,
            }
            path = f"/v2/a/referrers/{about['digest']}?artifactType=x/sbom"
            chosen = await one.ask("GET", path)
            assert [entry["digest"] for entry in chosen.json["manifests"]] == [sbom["digest"]]
            assert chosen.headers["OCI-Filters-Applied"] == "artifactType"
            await one.ask("DELETE", f"/v2/a/manifests/{sbom['digest']}")
            assert (await one.ask("GET", path)).json["manifests"] == []
            nothing = await one.ask("GET", f"/v2/never/referrers/{about['digest']}")
            assert (nothing.status, nothing.json["manifests"]) == (200, [])

    run(work())


def test_a_registry_that_is_only_read(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            digest = await one.push_image("a", "v1")
        async with served(tmp_path, RegistrySettings(read_only=True, grace_s=0.2)) as one:
            assert (await one.ask("GET", "/v2/a/manifests/v1")).status == 200
            for method, path in (
                ("POST", "/v2/a/blobs/uploads/"),
                ("PUT", "/v2/a/manifests/v2"),
                ("DELETE", "/v2/a/manifests/v1"),
                ("DELETE", f"/v2/a/blobs/{digest}"),
            ):
                answer = await one.ask(method, path)
                assert (answer.status, answer.code) == (405, "UNSUPPORTED")

    run(work())
