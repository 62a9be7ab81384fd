"""Tenants of a registry get nothing of each other's repositories, whatever they send."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import pytest

from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST
from pybuild.model.digest import Digest
from pybuild.registry.client.samestore import PROOF
from tests.registry.server.serving import described, descriptor, encoded, image, index
from tests.security.registrysite import SECRET, Registry, login, push, registry, token

pytestmark = pytest.mark.slow
ANN, BOB = "/v2/home/ann/app", "/v2/home/bob/app"


@pytest.fixture(scope="module", params=["passwords", "tokens"])
def one(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Registry]:
    flags = ("--tokens",) if request.param == "tokens" else ()
    with registry(tmp_path_factory.mktemp("r"), *flags) as found:
        push(found, "bob", "home/bob/app", "v1", b"layer of bob's")
        yield found


@dataclass(frozen=True)
class Try:
    """One attempt of bob's; ``{m}``, ``{l}`` and ``{u}`` are ann's manifest, layer and upload."""

    method: str
    path: str
    status: tuple[int, ...]
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    user: str = "bob"

    def fill(self, one: Registry) -> str:
        return (
            self.path.replace("{m}", one.manifest)
            .replace("{l}", one.layer)
            .replace("{u}", one.upload)
        )


DENIED, MISSING, BAD = (401, 403), (404,), (400, 403, 404)
MANIFEST = {"Content-Type": OCI_MANIFEST}
OWN = encoded(image(Digest.of(b"{}"), []))
X = b"x"
X_DIGEST = Digest.of(X)

TRIES: dict[str, Try] = {
    # reading
    "manifest-by-tag": Try("GET", ANN + "/manifests/v1", DENIED),
    "manifest-by-digest": Try("GET", ANN + "/manifests/{m}", DENIED),
    "head-manifest": Try("HEAD", ANN + "/manifests/{m}", DENIED),
    "blob": Try("GET", ANN + "/blobs/{l}", DENIED),
    "head-blob": Try("HEAD", ANN + "/blobs/{l}", DENIED),
    "blob-range": Try("GET", ANN + "/blobs/{l}", DENIED, headers={"Range": "bytes=0-3"}),
    "blob-if-none-match": Try("GET", ANN + "/blobs/{l}", DENIED, headers={"If-None-Match": "*"}),
    "manifest-if-match": Try("GET", ANN + "/manifests/v1", DENIED, headers={"If-None-Match": "*"}),
    "tags": Try("GET", ANN + "/tags/list", DENIED),
    "referrers": Try("GET", ANN + "/referrers/{m}", DENIED),
    "missing-is-as-forbidden": Try("GET", "/v2/home/ann/nothing/tags/list", DENIED),
    "catalog": Try("GET", "/v2/_catalog", (200,)),
    "catalog-page": Try("GET", "/v2/_catalog?n=1&last=home/ann", (200,)),
    "catalog-many": Try("GET", "/v2/_catalog?n=99999999999", (200, 400)),
    "catalog-negative": Try("GET", "/v2/_catalog?n=-1", (200, 400)),
    "catalog-strange-last": Try("GET", "/v2/_catalog?last=%00%0a..%2f", (200, 400)),
    "catalog-head": Try("HEAD", "/v2/_catalog", (405,)),
    # digests that are known or guessed
    "own-blob-by-its-digest": Try("GET", BOB + "/blobs/{l}", MISSING),
    "own-head-blob-by-its-digest": Try("HEAD", BOB + "/blobs/{l}", MISSING),
    "own-manifest-by-its-digest": Try("GET", BOB + "/manifests/{m}", MISSING),
    "own-manifest-as-blob": Try("GET", BOB + "/blobs/{m}", MISSING),
    "own-referrers-of-its-digest": Try("GET", BOB + "/referrers/{m}", (200,)),
    "public-blob-by-its-digest": Try("GET", "/v2/public/tools/blobs/{l}", MISSING),
    # writing
    "put-tag": Try("PUT", ANN + "/manifests/v1", DENIED, OWN, MANIFEST),
    "put-new-tag": Try("PUT", ANN + "/manifests/v2", DENIED, OWN, MANIFEST),
    "put-by-digest": Try("PUT", ANN + f"/manifests/{Digest.of(OWN)}?tag=v1", DENIED, OWN, MANIFEST),
    "begin-upload": Try("POST", ANN + "/blobs/uploads/", DENIED),
    "whole-upload": Try("POST", ANN + f"/blobs/uploads/?digest={X_DIGEST}", DENIED, X),
    "push-to-public": Try("POST", "/v2/public/tools/blobs/uploads/", DENIED),
    "expects-to-continue": Try("POST", ANN + "/blobs/uploads/", DENIED, X, {"Expect": "100-continue"}),
    # uploads of others
    "its-upload-status": Try("GET", ANN + "/blobs/uploads/{u}", DENIED),
    "its-upload-patch": Try("PATCH", ANN + "/blobs/uploads/{u}", DENIED, X),
    "its-upload-finish": Try("PUT", ANN + f"/blobs/uploads/{{u}}?digest={X_DIGEST}", DENIED, X),
    "its-upload-cancel": Try("DELETE", ANN + "/blobs/uploads/{u}", DENIED),
    "its-upload-through-own-status": Try("GET", BOB + "/blobs/uploads/{u}", MISSING),
    "its-upload-through-own-patch": Try("PATCH", BOB + "/blobs/uploads/{u}", MISSING, X),
    "its-upload-through-own-finish": Try("PUT", BOB + f"/blobs/uploads/{{u}}?digest={Digest.of(b'half of it')}", MISSING),
    "its-upload-through-own-cancel": Try("DELETE", BOB + "/blobs/uploads/{u}", MISSING),
    "upload-id-as-path": Try("GET", BOB + "/blobs/uploads/..%2f{u}", BAD),
    "upload-id-with-its-file": Try("GET", BOB + "/blobs/uploads/{u}.0", MISSING),
    # deleting
    "delete-tag": Try("DELETE", ANN + "/manifests/v1", DENIED),
    "delete-manifest": Try("DELETE", ANN + "/manifests/{m}", DENIED),
    "delete-blob": Try("DELETE", ANN + "/blobs/{l}", DENIED),
    "delete-its-blob-from-own": Try("DELETE", BOB + "/blobs/{l}", MISSING),
    "delete-its-manifest-from-own": Try("DELETE", BOB + "/manifests/{m}", MISSING),
    # mounting: an ordinary upload begins instead
    "mount": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=home/ann/app", (202,)),
    "mount-from-anywhere": Try("POST", BOB + "/blobs/uploads/?mount={l}", (202,)),
    "mount-from-nothing": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=", (202,)),
    "mount-from-own": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=home/bob/app", (202,)),
    "mount-from-public": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=public/tools", (202,)),
    "mount-by-dots": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=home/bob/../ann/app", (202,)),
    "mount-by-coded-dots": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=home/bob/%2e%2e/ann/app", (202,)),
    "mount-by-comma": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=home,ann,app", (202,)),
    "mount-twice": Try("POST", BOB + "/blobs/uploads/?mount={l}&from=public/tools&from=home/ann/app", (202,)),
    "mount-to-it": Try("POST", ANN + "/blobs/uploads/?mount={l}&from=home/bob/app", DENIED),
    "mount-with-a-proof": Try("POST", BOB + "/blobs/uploads/?mount={l}", (202,), headers={PROOF: "0" * 64}),
    "mount-with-a-strange-proof": Try("POST", BOB + "/blobs/uploads/?mount={l}", (202,), headers={PROOF: "\u00e9\ufffd"}),
    # names
    "dots": Try("GET", "/v2/home/bob/../ann/app/manifests/v1", BAD),
    "coded-dots": Try("GET", "/v2/home/bob/%2e%2e/ann/app/manifests/v1", BAD),
    "coded-dots-and-slash": Try("GET", "/v2/home/bob/%2E%2e%2fann/app/manifests/v1", BAD),
    "twice-coded-dots": Try("GET", "/v2/home/bob/%252e%252e/ann/app/manifests/v1", BAD),
    "coded-slashes": Try("GET", "/v2/home%2fann%2fapp/manifests/v1", BAD + DENIED),
    "double-slash": Try("GET", "/v2/home//ann/app/manifests/v1", BAD),
    "leading-slash": Try("GET", "//v2/home/ann/app/manifests/v1", BAD),
    "dot": Try("GET", "/v2/home/./ann/app/manifests/v1", BAD),
    "upper-case": Try("GET", "/v2/home/Ann/App/manifests/v1", BAD),
    "look-alike": Try("GET", "/v2/home/%D0%B0nn/app/manifests/v1", BAD),
    "wide-letters": Try("GET", "/v2/home/%EF%BD%81nn/app/manifests/v1", BAD),
    "bad-utf-8": Try("GET", "/v2/home/%ff%fe/app/manifests/v1", BAD),
    "nul": Try("GET", "/v2/home/ann/app%00/manifests/v1", BAD),
    "newline": Try("GET", "/v2/home/ann/app%0a/manifests/v1", BAD),
    "comma": Try("GET", "/v2/home,ann,app/manifests/v1", BAD),
    "backslash": Try("GET", "/v2/home/bob\\..\\ann/app/manifests/v1", BAD),
    "semicolon": Try("GET", "/v2/home/bob;/../ann/app/manifests/v1", BAD),
    "long": Try("GET", f"/v2/{'a' * 5000}/manifests/v1", BAD),
    "absolute-form": Try("GET", "http://x/v2/home/ann/app/manifests/v1", BAD + DENIED),
    "through-a-route": Try("GET", "/v2/home/bob/app/blobs/uploads/../../../../ann/app/manifests/v1", BAD),
    "route-in-a-name": Try("GET", "/v2/home/ann/app/manifests/v1/tags/list", DENIED),
    "fragment": Try("GET", "/v2/home/ann/app/manifests/v1#/v2/home/bob/", BAD + DENIED),
    "tag-with-a-path": Try("GET", BOB + "/manifests/..%2f..%2fhome,ann,app%2ftags%2fv1", BAD),
    "digest-with-a-path": Try("GET", BOB + "/blobs/sha256:..%2f..%2fx", BAD),
    "digest-of-another-kind": Try("GET", BOB + "/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", BAD),
    "digest-in-upper-case": Try("GET", BOB + "/blobs/SHA256:" + "A" * 64, BAD),
    # who asks
    "nobody": Try("GET", ANN + "/manifests/v1", (401,), user=""),
    "wrong-password": Try("GET", ANN + "/manifests/v1", (401,), headers=login("ann", "bob")),
    "long-password": Try("GET", ANN + "/manifests/v1", (401,), headers=login("ann", "ann" + "\0" * 90)),
    "no-password": Try("GET", ANN + "/manifests/v1", (401,), headers={"Authorization": "Basic YW5uOg=="}),
    "user-in-bad-utf-8": Try("GET", ANN + "/manifests/v1", (401,), headers={"Authorization": "Basic /zp4"}),
    "user-that-is-a-pattern": Try("GET", ANN + "/manifests/v1", DENIED, user="*"),
    "user-that-starts-a-pattern": Try("GET", ANN + "/manifests/v1", DENIED, user="a*"),
    "user-with-a-slash": Try("GET", ANN + "/x/tags/list", DENIED, user="ann/app"),
    "user-called-anonymous": Try("GET", ANN + "/manifests/v1", DENIED, user="anonymous"),
    "user-called-user": Try("GET", ANN + "/manifests/v1", DENIED, user="$user"),
    "user-called-dots": Try("GET", "/v2/home/../ann/tags/list", BAD, user=".."),
    "catalog-of-a-pattern": Try("GET", "/v2/_catalog", (200,), user="*"),
    "token-without-a-signature": Try("GET", ANN + "/manifests/v1", (401,), headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ."}),
    "token-that-is-none": Try("GET", ANN + "/manifests/v1", (401,), headers={"Authorization": "Bearer " + "A" * 3000}),
    "another-scheme": Try("GET", ANN + "/manifests/v1", (401,), headers={"Authorization": "Digest username=ann"}),
    "another-method": Try("POST", ANN + "/manifests/v1", (405,), headers={"X-HTTP-Method-Override": "GET"}),
    "forwarded-user": Try("GET", ANN + "/manifests/v1", DENIED, headers={"X-Forwarded-User": "ann", "X-Remote-User": "ann", "Remote-User": "ann"}),
    "original-url": Try("GET", BOB + "/manifests/v1", (200,), headers={"X-Original-URL": ANN + "/manifests/v1", "X-Rewrite-URL": ANN + "/manifests/v1"}),
    "unknown-method": Try("COPY", ANN + "/manifests/v1", (400, 405), headers={"Destination": BOB}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIES)
def test_a_tenant_gets_nothing_of_another_s(one: Registry, name: str) -> None:
    attempt = TRIES[name]
    reply = one.ask(attempt.method, attempt.fill(one), attempt.body, attempt.headers, attempt.user)
    assert reply.status in attempt.status, reply
    assert SECRET not in reply.body
    assert b"home/ann" not in reply.body or reply.status >= 400
    is_whole(one)


def is_whole(one: Registry) -> None:
    """Check that ann's content is as it was, and that bob has no part of it."""
    seen = one.ask("GET", ANN + "/manifests/v1", user="ann")
    assert (seen.status, seen.body) == (200, encoded(one.document))
    assert one.ask("GET", ANN + f"/blobs/{one.layer}", user="ann").body == SECRET
    tags = one.ask("GET", ANN + "/tags/list", user="ann")
    assert json.loads(tags.body)["tags"] == ["v1"]
    upload = one.ask("GET", ANN + f"/blobs/uploads/{one.upload}", user="ann")
    assert (upload.status, upload.headers["range"]) == (204, "0-9")
    referrers = one.ask("GET", ANN + f"/referrers/{one.manifest}", user="ann")
    assert json.loads(referrers.body)["manifests"] == []
    for digest in (one.layer, one.manifest):
        assert one.ask("HEAD", BOB + f"/blobs/{digest}").status == 404


def names_its_layer(one: Registry) -> bytes:
    return encoded({**one.document, "annotations": {"by": "bob"}})


def names_its_manifest(one: Registry) -> bytes:
    return encoded(index([described(one.document)]))


def names_its_layer_as_a_manifest(one: Registry) -> bytes:
    return encoded(index([descriptor(OCI_MANIFEST, one.layer, len(SECRET))]))


def names_its_manifest_as_a_layer(one: Registry) -> bytes:
    document = image(Digest.of(b"{}"), [one.manifest])
    document["layers"][0]["size"] = len(encoded(one.document))
    return encoded(document)


def names_its_config(one: Registry) -> bytes:
    document = image(Digest.of(b"{}"), [])
    document["config"] = descriptor("application/vnd.oci.image.config.v1+json", one.layer, 22)
    return encoded(document)


def copies_it_by_its_bytes(one: Registry) -> bytes:
    return encoded(one.document)


@pytest.mark.parametrize(
    "document",
    [
        names_its_layer,
        names_its_manifest,
        names_its_layer_as_a_manifest,
        names_its_manifest_as_a_layer,
        names_its_config,
        copies_it_by_its_bytes,
    ],
)
def test_a_manifest_brings_in_nothing_of_another_s(
    one: Registry, document: Callable[[Registry], bytes]
) -> None:
    data = document(one)
    kind = json.loads(data)["mediaType"]
    reply = one.ask("PUT", BOB + "/manifests/stolen", data, {"Content-Type": kind})
    assert (reply.status, b"MANIFEST_BLOB_UNKNOWN" in reply.body) == (400, True), reply
    is_whole(one)


def test_a_subject_of_another_s_says_nothing_there(one: Registry) -> None:
    """Referring to any digest is allowed; it is seen in one's own repository alone."""
    document = image(Digest.of(b"{}"), [], subject=described(one.document))
    reply = one.ask("PUT", BOB + "/manifests/about", encoded(document), MANIFEST)
    assert reply.status == 201
    is_whole(one)
    assert one.ask("DELETE", BOB + f"/manifests/{Digest.of(encoded(document))}").status == 202


WRONG: dict[str, tuple[str, dict[str, str], bytes, tuple[int, ...]]] = {
    "huge": ("huge", MANIFEST, b" " * ((4 << 20) + 1), (413,)),
    "deep": ("deep", MANIFEST, b"[" * 200_000, (400,)),
    "deep-object": ("deep", MANIFEST, b'{"a":' * 100_000, (400,)),
    "no-json": ("none", MANIFEST, b"\xff\xfe", (400,)),
    "number": ("none", MANIFEST, b"1" * 10_000, (400,)),
    "empty": ("none", MANIFEST, b"", (400,)),
    "manifest-as-index": ("x", {"Content-Type": OCI_INDEX}, OWN, (400,)),
    "index-as-manifest": ("x", MANIFEST, encoded(index([])), (400,)),
    "both": ("x", MANIFEST, encoded({**image(Digest.of(b"{}"), []), "manifests": []}), (400,)),
    "html": ("x", {"Content-Type": "text/html"}, b"<script>alert(1)</script>", (400,)),
    "packed": ("x", {**MANIFEST, "Content-Encoding": "gzip"}, b"\x1f\x8b\x08\0\0", (400, 415)),
    "by-another-digest": (str(Digest.of(b"y")), MANIFEST, OWN, (400,)),
    "bad-tag": ("..", MANIFEST, OWN, (400, 404)),
    "many-tags": (f"{Digest.of(OWN)}?" + "&".join([f"tag=a{n}" for n in range(200)]), MANIFEST, OWN, (414,)),
    "tag-that-is-a-path": (f"{Digest.of(OWN)}?tag=../../x", MANIFEST, OWN, (400,)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_manifest_is_refused(one: Registry, name: str) -> None:
    reference, headers, data, statuses = WRONG[name]
    reply = one.ask("PUT", f"{BOB}/manifests/{reference}", data, headers)
    assert reply.status in statuses, reply
    assert reply.headers["content-type"].startswith("application/json")
    is_whole(one)


RANGES: dict[str, tuple[dict[str, str], bytes, tuple[int, ...]]] = {
    "beyond": ({"Content-Range": "5-9"}, b"abcde", (416,)),
    "backwards": ({"Content-Range": "9-0"}, b"abcde", (400,)),
    "negative": ({"Content-Range": "-5-0"}, b"abcde", (400,)),
    "endless": ({"Content-Range": "0-" + "9" * 400}, b"abcde", (400,)),
    "longer-than-it-says": ({"Content-Range": "0-1"}, b"abcde", (400,)),
    "shorter-than-it-says": ({"Content-Range": "0-99"}, b"abcde", (400,)),
    "digits-of-another-script": ({"Content-Range": "\u0660-\u0661"}, b"ab", (400,)),
    "text": ({"Content-Range": "bytes */*"}, b"abcde", (400,)),
}


@pytest.mark.parametrize("name", RANGES)
def test_a_chunk_at_no_place_of_its_own_leaves_the_upload_as_it_was(
    one: Registry, name: str
) -> None:
    headers, body, statuses = RANGES[name]
    place = one.ask("POST", BOB + "/blobs/uploads/").headers["location"]
    assert one.ask("PATCH", place, body, headers).status in statuses
    assert one.ask("GET", place).headers["range"] == "0-0"
    assert one.ask("PUT", f"{place}?digest={Digest.of(b'')}").status == 201


def test_ranges_give_no_byte_that_is_not_the_blob_s(one: Registry) -> None:
    data = b"layer of bob's"
    place = BOB + f"/blobs/{Digest.of(data)}"
    for given in (
        "bytes=0-", "bytes=-3", "bytes=-0", "bytes=2-1", "bytes=0-99999999999999999999",
        "bytes=99999-", "bytes=0-0,2-3", "bytes=-99999", "lines=0-1", "bytes=a-b", "bytes=0-1" * 500,
    ):  # fmt: skip
        reply = one.ask("GET", place, headers={"Range": given})
        assert reply.status in (200, 206, 416, 400), (given, reply)
        if reply.status in (200, 206):
            assert reply.body in data, given
        head = one.ask("HEAD", place, headers={"Range": given})
        assert (head.status, head.body) == (reply.status, b""), given


SMUGGLED = {
    "length-and-chunks": "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "chunks-and-length": "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "two-lengths": "Content-Length: 4\r\nContent-Length: 60",
    "coded-twice": "Transfer-Encoding: chunked, identity",
    "strange-coding": "Transfer-Encoding: xchunked",
    "signed-length": "Content-Length: +4",
    "length-in-hex": "Content-Length: 0x4",
    "folded": "Transfer-Encoding:\r\n chunked",
    "space-before-colon": "Transfer-Encoding : chunked",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_within_a_request_is_never_answered(one: Registry, name: str) -> None:
    """Behind a proxy that counts otherwise, the next request would be another user's."""
    inner = f"GET {BOB}/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"PATCH {BOB}/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    auth = f"Authorization: {login('bob')['Authorization']}\r\n"
    sent = f"{head}{auth}{SMUGGLED[name]}\r\n\r\n0\r\n\r\n{inner}"
    reply = one.raw(sent.encode(), "PATCH")
    assert reply.status in (400, 404, 408), reply
    assert b'"tags"' not in reply.body


def test_chunked_bodies_are_held_to_what_they_are(one: Registry) -> None:
    auth = f"Authorization: {login('bob')['Authorization']}"
    for body in (
        b"ffffffffffffffffff\r\nx", b"-1\r\nx\r\n0\r\n\r\n", b"4;" + b"a" * 100_000 + b"\r\nabcd\r\n0\r\n\r\n",
        b"zz\r\nx\r\n0\r\n\r\n", b"1\r\nxx\r\n0\r\n\r\n",
    ):  # fmt: skip
        place = one.ask("POST", BOB + "/blobs/uploads/").headers["location"]
        head = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{auth}\r\n"
        reply = one.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body, "PATCH")
        assert reply.status < 500, (body[:40], reply)
        assert one.ask("DELETE", place).status == 204


# --- tokens -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokened(tmp_path_factory: pytest.TempPathFactory) -> Generator[Registry]:
    with registry(tmp_path_factory.mktemp("t"), "--tokens") as found:
        yield found


@pytest.mark.parametrize(
    "scope",
    [
        "repository:home/ann/app:pull",
        "repository:home/ann/app:*",
        "repository:home/ann/app:pull,push,delete",
        "repository:*:pull",
        "repository:home/*/app:pull",
        "repository:home/bob/app:pull%20repository:home/ann/app:pull",
        "repository:home/bob/../ann/app:pull",
        "repository(plugin):home/ann/app:pull",
        "registry:catalog:*",
        "registry:*:*",
        "repository:home/bob/app:pull:repository:home/ann/app:pull",
        "repository::pull",
        "",
    ],
)
def test_a_token_that_bob_gets_opens_nothing_of_ann_s(tokened: Registry, scope: str) -> None:
    bearer = {"Authorization": f"Bearer {token(tokened, 'bob', scope)}"}
    for method, path in (
        ("GET", ANN + "/manifests/v1"), ("GET", ANN + f"/blobs/{tokened.layer}"),
        ("DELETE", ANN + "/manifests/v1"), ("POST", ANN + "/blobs/uploads/"),
        ("GET", ANN + "/tags/list"),
    ):  # fmt: skip
        reply = tokened.ask(method, path, headers=bearer)
        assert reply.status in (401, 403), (method, path, reply)
    listed = tokened.ask("GET", "/v2/_catalog", headers=bearer)
    assert b"home/ann" not in listed.body or listed.status == 401


def test_a_token_of_ann_s_is_good_for_its_words_only(tokened: Registry) -> None:
    pull = {"Authorization": f"Bearer {token(tokened, 'ann', 'repository:home/ann/app:pull')}"}
    assert tokened.ask("GET", ANN + "/manifests/v1", headers=pull).status == 200
    for method, path in (
        ("POST", ANN + "/blobs/uploads/"), ("DELETE", ANN + "/manifests/v1"),
        ("GET", "/v2/home/ann/other/tags/list"), ("GET", "/v2/_catalog"),
    ):  # fmt: skip
        assert tokened.ask(method, path, headers=pull).status == 401, path


def test_a_token_that_was_changed_is_refused(tokened: Registry) -> None:
    good = token(tokened, "bob", "repository:home/bob/app:pull")
    head, body, signature = good.split(".")
    other = token(tokened, "bob", "repository:home/bob/other:pull").split(".")
    for text in (
        f"{head}.{other[1]}.{signature}", f"{head}.{body}.", f"{head}.{body}", f"{head}..{signature}",
        f"{head}.{body}.{signature}.{signature}", f"e30.{body}.{signature}", good[:-1], good.upper(),
    ):  # fmt: skip
        reply = tokened.ask(
            "GET", ANN + "/manifests/v1", headers={"Authorization": f"Bearer {text}"}
        )
        assert reply.status == 401, text


def test_the_realm_is_said_to_who_asks_and_to_nobody_else(tokened: Registry) -> None:
    """A Host of one's own choosing leads oneself astray; quotes in it end no quotes."""
    for host in ('evil.example"', "evil.example", 'x",realm="http://evil'):
        reply = tokened.ask("GET", "/v2/", headers={"Host": host}, user="")
        realm = reply.headers.get("www-authenticate", "")
        assert reply.status in (400, 401)
        assert realm.count('realm="') <= 1, realm
    plain = tokened.ask("GET", "/v2/", user="")
    assert f'realm="http://{tokened.host}/token"' in plain.headers["www-authenticate"]
    assert tokened.ask("GET", "/token?scope=x", headers=login("ann", "bob")).status == 401


def test_a_form_for_a_token_is_held_to_passwords_and_size(tokened: Registry) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    scope = "scope=repository:home/ann/app:pull"
    for body, statuses in (
        (f"grant_type=password&username=ann&password=bob&{scope}", (401,)),
        (f"grant_type=refresh_token&refresh_token=x&{scope}", (400,)),
        ("grant_type=password&username=ann&username=bob&password=bob", (401,)),
        ("x" * (2 << 20), (400, 413)),
    ):
        reply = tokened.ask("POST", "/token", body.encode(), form, user="")
        assert reply.status in statuses, reply
