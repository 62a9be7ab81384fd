"""A bucket's requests and what becomes of their answers, on a service that is a dict."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from pybuild.model.errors import UserError
from pybuild.remotecache.places import s3bucket
from pybuild.remotecache.places.s3bucket import Bucket, S3Fault, S3Object
from pybuild.remotecache.places.s3options import S3Place

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SILENCE = object()
LIBRARY = ("aiobotocore.session", "aiobotocore.config", "botocore.exceptions")


class ClientError(Exception):
    def __init__(self, status: int, code: str, message: str = "no") -> None:
        super().__init__(message)
        self.response = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }


class BotoCoreError(Exception):
    pass


class NoCredentialsError(BotoCoreError):
    pass


class Body:
    """A body that comes in pieces, and breaks where there is an error."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = list(pieces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self, size: int) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]


class Service:
    """Answers each request by the next of what was put in, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[object] = []
        self.options: dict[str, Any] = {}
        self.closed = 0

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def request(**words: Any) -> Any:
            self.asked.append((name, {k: v for k, v in words.items() if k != "Bucket"}))
            assert words["Bucket"] == "b"
            answer: Any = self.answers.pop(0) if self.answers else {}
            if answer is SILENCE:
                await asyncio.Event().wait()
            if isinstance(answer, Exception):
                raise answer
            return answer

        return request

    @asynccontextmanager
    async def open(self, kind: str, **options: Any) -> AsyncGenerator[Service]:
        assert kind == "s3"
        self.options = options
        yield self
        self.closed += 1


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service()

    def variable(name: str) -> str | None:
        return "home" if name == "region" else None

    def config(**words: object) -> dict[str, object]:
        return words

    session = SimpleNamespace(create_client=made.open, get_config_variable=variable)
    modules = (
        SimpleNamespace(get_session=lambda: session),
        SimpleNamespace(AioConfig=config),
        SimpleNamespace(
            ClientError=ClientError,
            BotoCoreError=BotoCoreError,
            NoCredentialsError=NoCredentialsError,
        ),
    )
    for name, module in zip(LIBRARY, modules, strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    yield made
    assert made.answers == []


def run(work: Callable[[Bucket], Coroutine[Any, Any, Any]], **place: Any) -> Any:
    async def body() -> Any:
        bucket = Bucket(S3Place(bucket="b", **place))
        try:
            return await work(bucket)
        finally:
            await bucket.close()

    return asyncio.run(body())


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore.session", None)
    with pytest.raises(UserError, match="needs aiobotocore") as caught:
        Bucket(S3Place(bucket="b"))
    assert caught.value.hints == ("pip install 'pybuild-oci[s3]'",)


@pytest.mark.parametrize(("region", "used"), [("", "home"), ("there", "there")])
def test_the_service_is_the_one_that_was_named(service: Service, region: str, used: str) -> None:
    words = {"endpoint_url": "http://h", "access_key_id": "i", "secret_access_key": "s"}
    run(lambda bucket: bucket.touch("k"), region=region, path_style=True, **words)
    assert service.options["region_name"] == used
    assert service.options["endpoint_url"] == "http://h"
    assert service.options["aws_access_key_id"] == "i"
    assert service.options["aws_secret_access_key"] == "s"
    assert service.options["aws_session_token"] is None
    assert service.options["config"]["s3"] == {"addressing_style": "path"}
    assert service.closed == 1
    copied = {"CopySource": {"Bucket": "b", "Key": "k"}, "MetadataDirective": "REPLACE"}
    assert service.asked == [("copy_object", {"Key": "k", **copied})]


def test_an_object_is_looked_at(service: Service) -> None:
    service.answers = [{"LastModified": NOW, "ContentLength": "7", "ETag": "e"}]
    found = run(lambda bucket: bucket.head("k"))
    assert found == S3Object(key="k", size=7, modified=NOW.timestamp(), etag="e")
    service.answers = [ClientError(404, "404")]
    assert run(lambda bucket: bucket.head("k")) is None
    service.answers = [ClientError(403, "AccessDenied", "go\n away")]
    with pytest.raises(S3Fault, match="b: look at k: 403 AccessDenied: go away") as caught:
        run(lambda bucket: bucket.head("k"))
    assert (caught.value.status, caught.value.code) == (403, "AccessDenied")


def test_a_small_object_is_read_up_to_its_limit(service: Service) -> None:
    service.answers = [{"Body": Body(b"ab", b"c"), "ETag": "e"}]
    assert run(lambda bucket: bucket.get("k", 3)) == (b"abc", "e")
    service.answers = [{"Body": Body(b"abcd")}]
    with pytest.raises(S3Fault, match="read s3://b/k: more than 3 bytes"):
        run(lambda bucket: bucket.get("k", 3))


async def _pieces(bucket: Bucket, size: int) -> bytes:
    return b"".join([piece async for piece in bucket.pieces("k", size)])


def test_a_large_object_goes_on_where_its_connection_broke(service: Service) -> None:
    service.answers = [{"Body": Body(b"ab", OSError("cut"))}, {"Body": Body(b"cd", b"too much")}]
    assert run(lambda bucket: _pieces(bucket, 4)) == b"abcd"
    assert [words.get("Range") for _, words in service.asked] == [None, "bytes=2-"]


def test_a_connection_that_brings_nothing_is_given_up(service: Service) -> None:
    service.answers = [{"Body": Body(b"a", OSError("cut"))}, *[{"Body": Body(OSError("cut"))}] * 4]
    service.answers[1:] = [{"Body": Body(OSError("cut"))} for _ in range(4)]
    with pytest.raises(S3Fault, match="read k: cut"):
        run(lambda bucket: _pieces(bucket, 4))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"Body": Body(b"ab")}, "read s3://b/k: 2 of 4 bytes"),
        (ClientError(404, "NoSuchKey"), "404 NoSuchKey"),
    ],
)
def test_what_is_short_or_refused_is_not_read_again(
    service: Service, answer: object, message: str
) -> None:
    service.answers = [answer]
    with pytest.raises(S3Fault, match=message):
        run(lambda bucket: _pieces(bucket, 4))


@pytest.mark.parametrize(
    ("expected", "condition"), [(None, {}), ("", {"IfNoneMatch": "*"}), ("e", {"IfMatch": "e"})]
)
def test_an_object_is_written_over_what_was_expected(
    service: Service, expected: str | None, condition: dict[str, str]
) -> None:
    service.answers = [{"ETag": "new"}]
    assert run(lambda bucket: bucket.put("k", b"data", expected)) == "new"
    assert service.asked == [("put_object", {"Key": "k", "Body": b"data", **condition})]


@pytest.mark.parametrize("code", ["PreconditionFailed", "409", "NoSuchKey"])
def test_another_object_than_expected_stays(service: Service, code: str) -> None:
    service.answers = [ClientError(412, code)]
    assert run(lambda bucket: bucket.put("k", b"data", "e")) is None


def test_a_server_without_conditions_takes_the_last_one(service: Service) -> None:
    service.answers = [ClientError(501, "NotImplemented"), {"ETag": "new"}]
    assert run(lambda bucket: bucket.put("k", b"data", "e")) == "new"
    assert service.asked[1] == ("put_object", {"Key": "k", "Body": b"data"})
    service.answers = [ClientError(403, "AccessDenied")]
    with pytest.raises(S3Fault, match="AccessDenied"):
        run(lambda bucket: bucket.put("k", b"data", ""))
    service.answers = [ClientError(501, "NotImplemented")]
    with pytest.raises(S3Fault, match="NotImplemented"):
        run(lambda bucket: bucket.put("k", b"data", None))


def test_a_file_goes_in_one_piece_or_in_parts(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3bucket, "PART_BYTES", 4)
    file, sent = tmp_path / "f", list[int]()
    file.write_bytes(b"0123")
    run(lambda bucket: bucket.put_file("k", str(file), 4, sent.append))
    assert ([name for name, _ in service.asked], sent) == (["put_object"], [4])
    service.asked.clear()
    file.write_bytes(b"0123456789")
    service.answers = [{"UploadId": "u"}, {"ETag": "1"}, {"ETag": "2"}, {"ETag": "3"}, {}]
    run(lambda bucket: bucket.put_file("k", str(file), 10, sent.append))
    assert sent == [4, 4, 8, 10]
    parts = [(words["PartNumber"], words["Body"]) for _, words in service.asked[1:4]]
    assert parts == [(1, b"0123"), (2, b"4567"), (3, b"89")]
    name, words = service.asked[-1]
    assert (name, words["UploadId"]) == ("complete_multipart_upload", "u")
    assert words["MultipartUpload"]["Parts"][2] == {"PartNumber": 3, "ETag": "3"}


def test_parts_of_a_file_that_cannot_be_sent_are_given_up(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3bucket, "PART_BYTES", 4)
    (tmp_path / "f").write_bytes(b"01234")
    service.answers = [{"UploadId": "u"}, ClientError(500, "InternalError"), {}]
    with pytest.raises(S3Fault, match="500 InternalError"):
        run(lambda bucket: bucket.put_file("k", str(tmp_path / "f"), 5, lambda _: None))
    assert service.asked[-1] == ("abort_multipart_upload", {"Key": "k", "UploadId": "u"})


def _page(*keys: str, more: str = "") -> dict[str, Any]:
    entries = [{"Key": key, "Size": 1, "LastModified": NOW} for key in keys]
    return {"Contents": entries, "IsTruncated": bool(more), "NextContinuationToken": more}


def test_objects_are_listed_page_by_page(service: Service) -> None:
    service.answers = [_page("a", "b", more="m"), _page("c", "d", more="n")]
    found = run(lambda bucket: bucket.list("p/", 3, after="0"))
    assert [one.key for one in found] == ["a", "b", "c"]
    assert [words for _, words in service.asked] == [
        {"Prefix": "p/", "StartAfter": "0"},
        {"Prefix": "p/", "ContinuationToken": "m"},
    ]
    service.answers = [_page("a")]
    assert [one.modified for one in run(lambda bucket: bucket.list("p/", 3))] == [NOW.timestamp()]
    service.answers = [{}]
    assert run(lambda bucket: bucket.list("p/", 3)) == []


def test_uploads_that_nobody_ended_are_given_up(service: Service) -> None:
    at = NOW.timestamp()
    uploads = [{"Key": key, "UploadId": key, "Initiated": NOW} for key in "ab"]
    service.answers = [{"Uploads": uploads}]
    run(lambda bucket: bucket.abort_uploads("p/", at))
    assert len(service.asked) == 1
    service.answers = [{"Uploads": uploads}]
    run(lambda bucket: bucket.abort_uploads("p/", at + 1))
    aborted = [words["Key"] for name, words in service.asked if name == "abort_multipart_upload"]
    assert aborted == ["a", "b"]


def test_an_object_is_deleted(service: Service) -> None:
    run(lambda bucket: bucket.delete("k"))
    assert service.asked == [("delete_object", {"Key": "k"})]


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        (NoCredentialsError(), "b: delete k: no credentials found", 401),
        (BotoCoreError("what  now"), "b: delete k: what now", 0),
        (OSError("gone"), "b: delete k: gone", 0),
        (TimeoutError(), "b: delete k: TimeoutError", 0),
    ],
)
def test_errors_are_told_in_words(
    service: Service, error: Exception, message: str, status: int
) -> None:
    service.answers = [error]
    with pytest.raises(S3Fault) as caught:
        run(lambda bucket: bucket.delete("k"))
    assert (caught.value.message, caught.value.status) == (message, status)


def test_a_service_that_says_nothing_rests_for_a_while(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3bucket, "PATIENCE_S", 0.0)
    service.answers = [SILENCE]

    async def work(bucket: Bucket) -> None:
        with pytest.raises(S3Fault, match="no answer for 0 s"):
            await bucket.head("k")
        with pytest.raises(S3Fault, match="not asked again for a while"):
            await bucket.delete("k")

    run(work)
    assert len(service.asked) <= 1
