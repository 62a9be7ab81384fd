"""Uploads to a repository, from a registry by hand: where they go on, and files that still grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from yarl import URL

from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError
from pybuild.model.reference import Reference
from pybuild.net.http1.answer import Answer
from pybuild.net.http1.client import Response
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.challenge import pull_scope, push_scope
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.growingupload import GrowingFile
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.repositoryupload import Uploading
from pybuild.registry.client.samestore import STORE
from pybuild.registry.client.transport import Request, Transport
from pybuild.registry.client.upload import Pushed, Upload
from tests.registry.fakes import DirectoryBlobs

BLOB = Descriptor(OCI_LAYER_GZIP, Digest.of(b"12345"), 5)
PLACE = "https://r.example/v2/a/blobs/uploads/"


def answer(status: int, url: str = PLACE, **headers: str) -> Response:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    read = Answer("HEAD")
    read.feed(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode())
    return Response(URL(url), read, cast(Any, None), lambda connection: None, 1.0, 1)


class Site:
    """Gives one answer, or fails."""

    def __init__(self, given: Response | HttpFault) -> None:
        self._given = given
        self.requests: list[Request] = []
        self.uploading = Uploading(
            cast(Transport, self),
            Endpoint("r.example", "r.example"),
            Reference.parse("r.example/a"),
        )

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Response]:
        self.requests.append(request)
        if isinstance(self._given, HttpFault):
            raise self._given
        yield self._given

    def refusal(self, request: Request, response: Response) -> HttpFault:
        return HttpFault(f"{request.action}: {response.status}")


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (answer(200), None),
        (answer(200, Content_Length="5"), None),
        (answer(200, Content_Length="4"), ""),
        (answer(404), ""),
        (answer(404, **{STORE: "s"}), "s"),
        (answer(405, **{STORE: "s"}), "s"),
    ],
)
def test_a_repository_has_a_blob_or_says_which_store_it_has(
    response: Response, found: str | None
) -> None:
    site = Site(response)
    assert asyncio.run(site.uploading.look(BLOB)) == found
    [request] = site.requests
    assert (request.method, request.path) == ("HEAD", f"/a/blobs/{BLOB.digest}")
    assert request.scopes == push_scope("a")


@pytest.mark.parametrize("status", [401, 403, 500, 206])
def test_a_question_that_is_refused_is_an_error(status: int) -> None:
    with pytest.raises(HttpFault, match=f"^push r.example/a:latest: {status}$"):
        asyncio.run(Site(answer(status)).uploading.look(BLOB))


def test_an_upload_is_begun_and_given_up() -> None:
    site = Site(answer(202, Location="/v2/a/blobs/uploads/x?s=1"))
    assert asyncio.run(site.uploading.begin()) == "https://r.example/v2/a/blobs/uploads/x?s=1"
    with pytest.raises(HttpFault, match="^push r.example/a:latest: 201$"):
        asyncio.run(Site(answer(201, Location="/x")).uploading.begin())
    with pytest.raises(ContentFault, match="^push r.example/a:latest: the upload has no Location$"):
        asyncio.run(Site(answer(202)).uploading.begin())
    for given in (answer(204), answer(404), HttpFault("gone")):
        site = Site(given)
        asyncio.run(site.uploading.cancel("https://r.example/x"))
        assert [(one.method, one.url) for one in site.requests] == [
            ("DELETE", "https://r.example/x")
        ]


@pytest.mark.parametrize(
    ("at", "location", "target"),
    [
        ("https://r.example/", "x", "https://r.example/x"),
        ("https://r.example/", "https://s.example/x", "https://s.example/x"),
        ("https://r.example/", "http://r.example/x?y=z", "https://r.example/x?y=z"),
        ("https://r.example:5000/", "http://r.example:5000/x", "https://r.example:5000/x"),
        ("http://r.example/", "http://s.example/x", "http://s.example/x"),
        ("http://r.example/", "https://r.example/x", "https://r.example/x"),
    ],
)
def test_where_an_upload_goes_on(at: str, location: str, target: str) -> None:
    """Behind what ends TLS for it, a registry may say http of itself, at the usual port too."""
    uploading = Site(answer(200)).uploading
    assert uploading.location_of(answer(202, at, Location=location)) == target


@pytest.mark.parametrize(
    "location", ["http://s.example/x", "http://r.example:80/x", "http://u:p@r.example/x"]
)
def test_an_upload_never_goes_down_to_plain_http(location: str) -> None:
    uploading = Site(answer(200)).uploading
    with pytest.raises(ContentFault, match="the upload goes to plain HTTP$"):
        uploading.location_of(answer(202, "https://r.example/", Location=location))


def test_the_digest_is_said_at_the_end() -> None:
    uploading = Site(answer(200)).uploading
    text = f"digest=sha256%3A{BLOB.digest.hex}"
    assert uploading.finishing("https://r/x", BLOB.digest) == f"https://r/x?{text}"
    assert uploading.finishing("https://r/x?s=1#f", BLOB.digest) == f"https://r/x?s=1&{text}"
    request = uploading.request("PUT", scopes=pull_scope("b"), retry=False)
    assert (request.scopes, request.retry) == (pull_scope("b"), False)
    assert (uploading.request("PUT").scopes, uploading.request("PUT").retry) == (
        push_scope("a"),
        True,
    )


# --- files that grow ------------------------------------------------------------------------------


class Bar:
    """Notes how far a transfer is."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def __call__(self, id: str, current: int, total: int) -> None:
        self.steps.append((id, current, total))


def test_a_growing_file_is_read_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"123")
    bar = Bar()

    async def work() -> list[bytes]:
        file = GrowingFile(str(path))
        read: list[bytes] = []
        async for piece in file.read(bar):
            read.append(piece)
            if len(read) == 1:
                with path.open("ab") as more:
                    more.write(b"45")
                file.grown()
            else:
                file.complete(BLOB)
                file.complete(Descriptor("other", BLOB.digest, 9))
        assert await file.whole() == BLOB
        file.close()
        file.close()
        return read

    assert asyncio.run(work()) == [b"123", b"45"]
    assert bar.steps == []


def test_progress_is_told_once_all_is_known(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"12345")
    bar = Bar()

    async def work() -> list[bytes]:
        file = GrowingFile(str(tmp_path / "blob"))
        file.complete(BLOB)
        try:
            return [piece async for piece in file.read(bar)]
        finally:
            file.close()

    assert asyncio.run(work()) == [b"12345"]
    assert bar.steps == [(str(BLOB.digest), 5, 5)]


def test_a_file_that_is_not_what_was_said_is_a_fault_of_ours(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"1234")

    async def work() -> None:
        file = GrowingFile(str(tmp_path / "blob"))
        file.complete(BLOB)
        try:
            async for _ in file.read(None):
                pass
        finally:
            file.close()

    with pytest.raises(InternalError, match=": 4 of 5 bytes written$"):
        asyncio.run(work())


def test_a_body_ends_where_nobody_needs_the_rest(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"123")

    async def work() -> list[bytes]:
        file = GrowingFile(str(tmp_path / "blob"))
        read: list[bytes] = []
        async for piece in file.read(None):
            read.append(piece)
            file.stop()
        file.close()
        assert [piece async for piece in file.read(None)] == []
        return read

    assert asyncio.run(work()) == [b"123"]


class Registry:
    """Answers requests by their method, and what they mount from."""

    def __init__(self, **mounts: Response | HttpFault) -> None:
        self._mounts = mounts
        self.requests: list[str] = []

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Response]:
        place = dict(request.query).get("from", "")
        target = (request.url or "").rpartition("/")[2].partition("?")[0]
        self.requests.append(" ".join(filter(None, (request.method, place or target))))
        given = (
            self._mounts[place]
            if place
            else answer({"HEAD": 404, "PUT": 201}.get(request.method, 204))
        )
        if isinstance(given, HttpFault):
            raise given
        yield given

    def refusal(self, request: Request, response: Response) -> HttpFault:
        return HttpFault(f"{request.action}: {response.status}")


def refused(status: int) -> HttpFault:
    return HttpFault("refused", status=status)


@pytest.mark.parametrize(
    ("mounts", "requests"),
    [
        ({"b": answer(201)}, ["HEAD", "POST b"]),
        ({"b": refused(403), "c": answer(201)}, ["HEAD", "POST b", "POST c"]),
        ({"b": answer(202, Location="u1")}, ["HEAD", "POST b", "PUT u1"]),
        (
            {"b": answer(202, Location="u1"), "c": answer(202, Location="u2")},
            ["HEAD", "POST b", "POST c", "DELETE u1", "PUT u2"],
        ),
        (
            {"b": answer(202, Location="u1"), "c": answer(200)},
            ["HEAD", "POST b", "POST c", "PUT u1"],
        ),
        (
            {"b": answer(202, Location="u1"), "c": refused(404)},
            ["HEAD", "POST b", "POST c", "PUT u1"],
        ),
    ],
)
def test_a_blob_that_is_mounted_nowhere_goes_where_the_last_try_began(
    tmp_path: Path, mounts: dict[str, Response | HttpFault], requests: list[str]
) -> None:
    registry, blobs = Registry(**mounts), DirectoryBlobs(tmp_path)
    assert blobs.put(b"12345") == BLOB.digest
    upload = Upload(
        transport=cast(Transport, registry),
        endpoint=Endpoint("r.example", "r.example"),
        reference=Reference.parse("r.example/a"),
        descriptor=BLOB,
        source=blobs,
        progress=None,
        chunk_bytes=0,
    )
    pushed = asyncio.run(upload.run(["b", "a", "c", "b"][: 2 * len(mounts)]))
    assert registry.requests == requests
    assert pushed is (Pushed.UPLOADED if "PUT" in requests[-1] else Pushed.MOUNTED)
