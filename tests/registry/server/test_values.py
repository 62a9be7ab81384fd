"""Small values of the server: its numbers, its shares, its refusals, bodies within limits."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from pybuild.registry.server.access import ALL, MEMBERS, Access, Caller, Rule
from pybuild.registry.server.body import PIECE_BYTES, pieces, whole
from pybuild.registry.server.discovery import MOST, page
from pybuild.registry.server.metrics import Metrics, Times
from pybuild.registry.server.ranges import Chunk, chunk_of
from pybuild.registry.server.refusal import (
    Refusal,
    RefusalCode,
    blob_unknown,
    digest_invalid,
    manifest_unknown,
    name_unknown,
)
from pybuild.registry.server.routes import Permission
from pybuild.registry.server.settings import ClientLimits
from pybuild.registry.server.shares import Shares, may_have

# --- numbers --------------------------------------------------------------------------------------


def test_times_are_counted_in_the_bound_that_holds_them() -> None:
    times = Times()
    for seconds in (0.005, 0.006, 60.0, 60.1, 0.0):
        times.add(seconds)
    assert times.within == [2, 1, *[0] * 9, 1]
    assert times.count == 5
    assert times.sum_s == pytest.approx(120.111)


def test_numbers_are_told_in_prometheus_words() -> None:
    metrics = Metrics(in_flight=2, received_bytes=10)
    metrics.answered("blob", "GET", 200, 0.02, 5)
    metrics.answered("blob", "GET", 200, 100.0, 6)
    metrics.answered("blob", "GET", 404, 0.02, 7)
    metrics.collected["blobs",] += 3
    metrics.fetched['a\\b"c\nd', "hit"] += 1
    metrics.linked["mount",] += 4
    lines = metrics.text({"disk_bytes": ("Bytes of it.", 1.5)}).splitlines()
    prefix = "pybuild_registry_"
    for line in (
        'requests_total{kind="blob",method="GET",status="200"} 2',
        'requests_total{kind="blob",method="GET",status="404"} 1',
        'request_seconds_bucket{kind="blob",method="GET",le="0.01"} 0',
        'request_seconds_bucket{kind="blob",method="GET",le="0.025"} 2',
        'request_seconds_bucket{kind="blob",method="GET",le="60"} 2',
        'request_seconds_bucket{kind="blob",method="GET",le="+Inf"} 3',
        'request_seconds_count{kind="blob",method="GET"} 3',
        'collected_total{what="blobs"} 3',
        'upstream_total{upstream="a\\\\b\\"c\\nd",outcome="hit"} 1',
        'linked_total{how="mount"} 4',
        "received_bytes_total 10",
        "answered_bytes_total 18",
        "requests_in_flight 2",
        "disk_bytes 1.5",
    ):
        assert lines.count(prefix + line) == 1, line
    assert f"# TYPE {prefix}request_seconds histogram" in lines
    assert f"# TYPE {prefix}requests_total counter" in lines
    assert f"# TYPE {prefix}disk_bytes gauge" in lines
    assert f"# HELP {prefix}disk_bytes Bytes of it." in lines


# --- shares ---------------------------------------------------------------------------------------


def test_who_comes_first_has_all_where_callers_are_not_told_apart() -> None:
    shares = Shares(2, is_fair=False)
    assert [shares.take("a") for _ in range(3)] == [True, True, False]
    shares.give("a")
    assert shares.take("a")


def test_no_caller_has_more_than_is_left_for_the_others() -> None:
    shares = Shares(8, is_fair=True)
    assert [shares.take("a") for _ in range(5)] == [True] * 4 + [False]
    assert [shares.take("b") for _ in range(3)] == [True, True, False]
    assert shares.take("c")
    assert not shares.take("d") or not shares.take("e")
    shares.give("a")
    assert not shares.take("a")


@pytest.mark.parametrize(
    ("held", "by_all", "fair", "unfair"),
    [(0, 0, True, True), (1, 2, True, True), (2, 2, False, True), (0, 4, False, False)],
)
def test_a_share(held: int, by_all: int, fair: bool, unfair: bool) -> None:
    assert may_have(held, by_all, 4, True) is fair
    assert may_have(held, by_all, 4, False) is unfair


# --- refusals -------------------------------------------------------------------------------------


def test_a_refusal_is_told_in_the_specification_s_words() -> None:
    refusal = Refusal(404, RefusalCode.NAME_UNKNOWN, "no ä", {"A": "b"})
    assert json.loads(refusal.body) == {"errors": [{"code": "NAME_UNKNOWN", "message": "no ä"}]}
    assert "ä".encode() in refusal.body
    assert (refusal.status, refusal.headers, str(refusal)) == (404, {"A": "b"}, "no ä")
    assert Refusal(400, RefusalCode.DENIED, "x").headers == {}


def test_refusals_of_what_is_not_there() -> None:
    for refusal, status, code, message in (
        (blob_unknown("d"), 404, "BLOB_UNKNOWN", "blob d is not in this repository"),
        (manifest_unknown("t"), 404, "MANIFEST_UNKNOWN", "manifest t is not in this repository"),
        (name_unknown("n"), 404, "NAME_UNKNOWN", "repository n does not exist"),
        (digest_invalid("x"), 400, "DIGEST_INVALID", '"x" is not a sha256 or sha512 digest'),
    ):
        assert (refusal.status, refusal.code, refusal.message) == (status, code, message)
    assert len(digest_invalid("x" * 500).message) < 250


# --- pages and ranges -----------------------------------------------------------------------------


def test_a_page_ends_where_the_list_does() -> None:
    items = ["a", "b", "c", "d"]
    assert page(items, {}, "/p").items == ("a", "b", "c", "d")
    assert page(items, {"n": "4"}, "/p").link == ""
    assert page(items, {"n": "3"}, "/p").link == '</p?n=3&last=c>; rel="next"'
    assert page(items, {"n": "2", "last": "b"}, "/p").link == ""
    assert page(items, {"n": "0"}, "/p") == page([], {}, "/p")
    assert page(items, {"last": "bb", "n": "1"}, "/p").items == ("c",)
    assert page(items, {"last": "d"}, "/p").items == ()
    assert page(items, {}, "/p", most=2).items == ("a", "b")
    assert page(items, {"n": "3"}, "/p", most=2).items == ("a", "b")
    kept = page(items, {"n": "1", "last": "a", "kind": "x y"}, "/ä/p").link
    assert kept == '</%C3%A4/p?kind=x+y&n=1&last=b>; rel="next"'
    many = [f"{n:05}" for n in range(MOST + 1)]
    assert len(page(many, {"n": "999999999999"}, "/p").items) == MOST == 10_000


@pytest.mark.parametrize("text", ["", "-1", "1.5", "²", "x"])
def test_a_number_of_items_is_a_number(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        page(["a"], {"n": text}, "/p")
    assert (caught.value.status, caught.value.code) == (400, RefusalCode.UNSUPPORTED)


@pytest.mark.parametrize(
    ("text", "length", "chunk"),
    [
        ("", None, Chunk(None, None)),
        ("", 5, Chunk(None, 5)),
        ("0-0", None, Chunk(0, 1)),
        ("bytes 5-9/*", 5, Chunk(5, 5)),
        ("bytes=5-9/10", 5, Chunk(5, 5)),
        ("5-9", 5, Chunk(5, 5)),
    ],
)
def test_the_place_of_a_chunk(text: str, length: int | None, chunk: Chunk) -> None:
    assert chunk_of(text, length) == chunk


@pytest.mark.parametrize(
    ("text", "length", "code"),
    [
        ("5-4", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("x", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("5-", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("0-9/10x", None, RefusalCode.BLOB_UPLOAD_INVALID),
        ("0-9", 9, RefusalCode.SIZE_INVALID),
        ("0-9", 0, RefusalCode.SIZE_INVALID),
    ],
)
def test_a_chunk_without_sense(text: str, length: int | None, code: RefusalCode) -> None:
    with pytest.raises(Refusal) as caught:
        chunk_of(text, length)
    assert (caught.value.status, caught.value.code) == (400, code)


# --- rights ---------------------------------------------------------------------------------------


def test_a_token_limits_its_caller_and_nothing_else_counts() -> None:
    access = Access((MEMBERS,))
    assert access.permits(Caller("mona"), "a", Permission.PUSH)
    assert not access.permits(Caller(), "a", Permission.PULL)
    granted = Caller("", frozenset({("a", Permission.PULL)}))
    assert access.permits(granted, "a", Permission.PULL)
    assert not access.permits(granted, "a", Permission.PUSH)
    assert not access.permits(granted, "b", Permission.PULL)
    assert not access.permits(Caller("mona", frozenset()), "a", Permission.PULL)


def test_the_catalog_is_for_who_may_pull_something() -> None:
    pushers = Rule(users=("mona",), repositories=("*",), actions=frozenset({Permission.PUSH}))
    pullers = Rule(users=("lisa",), repositories=("a",), actions=frozenset({Permission.PULL}))
    access = Access((pushers, pullers))
    assert [access.lists(user) for user in ("mona", "lisa", "")] == [False, True, False]
    assert Access((ALL,)).lists("") and not Access((MEMBERS,)).lists("")
    assert Access((MEMBERS,)).lists("anybody")


def test_patterns_of_repositories() -> None:
    rule = Rule(
        users=("*",), repositories=("team/*", "$user/own", "a.b"), actions=frozenset(Permission)
    )
    access = Access((rule,))
    for name, allowed in (
        ("team/x/y", True),
        ("team/", True),
        ("team", False),
        ("xteam/y", False),
        ("mona/own", True),
        ("lisa/own", False),
        ("mona/own/x", False),
        ("a.b", True),
        ("axb", False),
    ):
        assert access.allows("mona", name, Permission.PULL) is allowed, name
    assert not access.allows("a/mona", "a/mona/own", Permission.PULL)


# --- bodies ---------------------------------------------------------------------------------------


class Content:
    """A body that comes in these pieces; an error is raised where it stands."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self._parts = list(parts)

    async def readany(self) -> bytes:
        part = self._parts.pop(0) if self._parts else b""
        if isinstance(part, Exception):
            raise part
        return part


def _request(*parts: bytes | Exception, length: int | None = None) -> web.BaseRequest:
    request = SimpleNamespace(content=Content(*parts), content_length=length)
    return cast(web.BaseRequest, request)


def _pieces(request: web.BaseRequest, limits: ClientLimits | None = None) -> list[bytes]:
    async def work() -> list[bytes]:
        return [piece async for piece in pieces(request, limits or ClientLimits())]

    return asyncio.run(work())


def test_a_body_comes_in_large_pieces() -> None:
    half = b"x" * (PIECE_BYTES // 2)
    assert [len(piece) for piece in _pieces(_request(half, half, b"y", half))] == [
        PIECE_BYTES,
        len(half) + 1,
    ]
    assert _pieces(_request(b"a", b"b")) == [b"ab"]
    assert _pieces(_request()) == []


def test_what_came_before_a_client_went_away_is_kept() -> None:
    async def work() -> list[bytes]:
        kept: list[bytes] = []
        with pytest.raises(OSError, match="gone"):
            async for piece in pieces(_request(b"a", b"b", OSError("gone")), ClientLimits()):
                kept.append(piece)
        return kept

    assert asyncio.run(work()) == [b"ab"]
    with pytest.raises(OSError, match="gone"):
        _pieces(_request(OSError("gone")))


def test_a_body_that_comes_too_slowly_is_refused() -> None:
    limits = ClientLimits(idle_s=0.0, least_bytes=2)
    for request in (_request(b"a", b"a"), _request(TimeoutError())):
        with pytest.raises(Refusal) as caught:
            _pieces(request, limits)
        assert (caught.value.status, caught.value.headers) == (408, {"Connection": "close"})


def _whole(request: web.BaseRequest) -> bytes:
    return asyncio.run(whole(request, ClientLimits(), 3, "a thing"))


def test_a_short_body_is_as_long_as_it_may_be() -> None:
    assert _whole(_request(b"ab", b"c")) == b"abc"
    assert _whole(_request(b"abc", length=3)) == b"abc"
    for request in (_request(b"ab", b"cd"), _request(length=4)):
        with pytest.raises(Refusal) as caught:
            _whole(request)
        assert (caught.value.status, caught.value.code) == (413, RefusalCode.SIZE_INVALID)
        assert caught.value.message == "a thing is longer than 3 bytes"
