"""Paths and headers are understood before anything is looked up."""

from __future__ import annotations

import pytest

from pybuild.registry.server.discovery import page
from pybuild.registry.server.ranges import Chunk, chunk_of, reached
from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.routes import Permission, RouteKind, understand

SHA = "sha256:" + "a" * 64
ID = "0b7f1c1e-1d7c-4c6e-9b1b-2f6d0a9c1d2e"


@pytest.mark.parametrize(
    ("method", "path", "kind", "name"),
    [
        ("GET", "/v2", RouteKind.BASE, ""),
        ("GET", "/v2/", RouteKind.BASE, ""),
        ("GET", "/v2/_catalog", RouteKind.CATALOG, ""),
        ("GET", "/v2/a/b/c/tags/list", RouteKind.TAGS, "a/b/c"),
        ("GET", "/v2/tags/list/tags/list", RouteKind.TAGS, "tags/list"),
        ("PUT", "/v2/a/manifests/v1", RouteKind.MANIFEST, "a"),
        ("GET", f"/v2/manifests/manifests/{SHA}", RouteKind.MANIFEST, "manifests"),
        ("GET", f"/v2/a/blobs/{SHA}", RouteKind.BLOB, "a"),
        ("GET", f"/v2/a/blobs/b/blobs/{SHA}", RouteKind.BLOB, "a/blobs/b"),
        ("POST", "/v2/a/blobs/uploads", RouteKind.UPLOADS, "a"),
        ("POST", "/v2/a/blobs/uploads/", RouteKind.UPLOADS, "a"),
        ("PATCH", f"/v2/a/blobs/uploads/{ID}", RouteKind.UPLOAD, "a"),
        ("GET", f"/v2/a/referrers/{SHA}", RouteKind.REFERRERS, "a"),
    ],
)
def test_each_endpoint_is_understood(method: str, path: str, kind: RouteKind, name: str) -> None:
    call = understand(method, path)
    assert (call.kind, call.name) == (kind, name)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, RefusalCode.UNSUPPORTED),
        ("GET", "/v1/", 404, RefusalCode.UNSUPPORTED),
        ("GET", "/v2/a", 404, RefusalCode.UNSUPPORTED),
        ("TRACE", "/v2/", 405, RefusalCode.UNSUPPORTED),
        ("DELETE", "/v2/a/tags/list", 405, RefusalCode.UNSUPPORTED),
        ("GET", "/v2/../manifests/v1", 400, RefusalCode.NAME_INVALID),
        ("GET", "/v2/a/../b/manifests/v1", 400, RefusalCode.NAME_INVALID),
        ("GET", "/v2//manifests/v1", 404, RefusalCode.UNSUPPORTED),
        ("GET", "/v2/a//b/tags/list", 400, RefusalCode.NAME_INVALID),
        ("GET", "/v2/A/tags/list", 400, RefusalCode.NAME_INVALID),
        ("GET", "/v2/a,b/tags/list", 400, RefusalCode.NAME_INVALID),
        ("GET", "/v2/a\0b/tags/list", 400, RefusalCode.NAME_INVALID),
        ("GET", "/v2/a\n/tags/list", 404, RefusalCode.UNSUPPORTED),
        ("GET", "/v2/" + "a" * 256 + "/tags/list", 400, RefusalCode.NAME_INVALID),
        ("GET", "/v2/_uploads/tags/list", 400, RefusalCode.NAME_INVALID),
        ("PUT", "/v2/a/manifests/.hidden", 400, RefusalCode.MANIFEST_INVALID),
        ("PUT", "/v2/a/manifests/" + "t" * 129, 400, RefusalCode.MANIFEST_INVALID),
        ("GET", "/v2/a/manifests/.hidden", 404, RefusalCode.MANIFEST_UNKNOWN),
        ("GET", "/v2/a/manifests/sha256:short", 400, RefusalCode.DIGEST_INVALID),
        ("GET", "/v2/a/manifests/md5:" + "a" * 32, 400, RefusalCode.DIGEST_INVALID),
        ("GET", "/v2/a/blobs/latest", 400, RefusalCode.DIGEST_INVALID),
        ("GET", f"/v2/a/blobs/{SHA.upper()}", 400, RefusalCode.DIGEST_INVALID),
        ("GET", "/v2/a/referrers/x", 400, RefusalCode.DIGEST_INVALID),
        ("PATCH", "/v2/a/blobs/uploads/..", 404, RefusalCode.BLOB_UPLOAD_UNKNOWN),
        ("PATCH", f"/v2/a/blobs/uploads/{ID.upper()}", 404, RefusalCode.BLOB_UPLOAD_UNKNOWN),
        ("PATCH", f"/v2/a/blobs/uploads/{ID}.x", 404, RefusalCode.BLOB_UPLOAD_UNKNOWN),
    ],
)
def test_what_is_no_endpoint_is_refused_by_code(
    method: str, path: str, status: int, code: RefusalCode
) -> None:
    with pytest.raises(Refusal) as caught:
        understand(method, path)
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/v2/", None),
        ("HEAD", "/v2/a/manifests/v1", Permission.PULL),
        ("PUT", "/v2/a/manifests/v1", Permission.PUSH),
        ("DELETE", "/v2/a/manifests/v1", Permission.DELETE),
        ("GET", f"/v2/a/blobs/uploads/{ID}", Permission.PUSH),
        ("DELETE", f"/v2/a/blobs/uploads/{ID}", Permission.PUSH),
    ],
)
def test_what_each_request_must_be_allowed(
    method: str, path: str, action: Permission | None
) -> None:
    assert understand(method, path).action is action


def test_a_chunk_is_what_its_headers_agree_on() -> None:
    assert chunk_of("", None) == Chunk(None, None)
    assert chunk_of("", 7) == Chunk(None, 7)
    assert chunk_of("3-9", 7) == Chunk(3, 7)
    assert chunk_of("bytes 3-9/*", None) == Chunk(3, 7)
    assert chunk_of("bytes=3-9", None) == Chunk(3, 7)


@pytest.mark.parametrize(
    ("text", "length", "code"),
    [
        ("x", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("9-3", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("-3", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("0-9\n", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("0-9", 9, RefusalCode.SIZE_INVALID),
    ],
)
def test_a_chunk_that_contradicts_itself_is_refused(
    text: str, length: int | None, code: RefusalCode
) -> None:
    with pytest.raises(Refusal) as caught:
        chunk_of(text, length)
    assert (caught.value.status, caught.value.code) == (400, code)


def test_a_range_names_the_last_byte() -> None:
    assert [reached(offset) for offset in (0, 1, 2, 100)] == ["0-0", "0-0", "0-1", "0-99"]


ITEMS = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("query", "items", "link"),
    [
        ({}, "abcd", ""),
        ({"n": "2"}, "ab", '</list?n=2&last=b>; rel="next"'),
        ({"n": "2", "last": "b"}, "cd", ""),
        ({"n": "1", "last": "bb"}, "c", '</list?n=1&last=c>; rel="next"'),
        ({"last": "c"}, "d", ""),
        ({"n": "0"}, "", ""),
        ({"n": "4"}, "abcd", ""),
        ({"n": "99999999999999999999"}, "abcd", ""),
        (
            {"n": "1", "artifactType": "x/y"},
            "a",
            '</list?artifactType=x%2Fy&n=1&last=a>; rel="next"',
        ),
    ],
)
def test_pages_follow_each_other(query: dict[str, str], items: str, link: str) -> None:
    part = page(ITEMS, query, "/list")
    assert ("".join(part.items), part.link) == (items, link)


def test_a_page_of_no_number_is_refused() -> None:
    with pytest.raises(Refusal):
        page(ITEMS, {"n": "-1"}, "/list")
