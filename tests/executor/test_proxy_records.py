"""The record of a step's requests, and the heads of requests, without a network [ATT-2]."""

from __future__ import annotations

import asyncio
import json

import pytest

from pybuild.executor.proxies.record import (
    META,
    ProxyRecord,
    Uncaptured,
    facts_of,
    judged_url,
    shown_url,
)
from pybuild.executor.proxies.requests import BadRequest, parse_head, read_request

ONE, TWO = "1" * 64, "2" * 64


def test_requests_are_lines_in_their_order() -> None:
    record = ProxyRecord()
    record.add_request("GET", "http://h.example:80/a", 200)
    record.add_request("CONNECT", "https://me:word@h.example:443/", 0, why="no TLS was agreed on")
    assert record.lines() == [
        "- GET http://h.example/a -> 200",
        "- CONNECT https://xxxxx:xxxxx@h.example/ (no TLS was agreed on)",
    ]


def test_what_leads_to_a_file_is_a_material_like_the_file() -> None:
    record = ProxyRecord()
    record.add_request("GET", "http://h.example/latest", 302, "/next")
    record.add_request("GET", "http://h.example/next", 302, "https://cdn.example/1.0")
    record.add_request("GET", "https://cdn.example/1.0", 200)
    record.add_material("https://cdn.example/1.0", ONE)
    assert record.materials() == dict.fromkeys(
        ("http://h.example/latest", "http://h.example/next", "https://cdn.example/1.0"), ONE
    )


def test_redirects_in_a_circle_have_an_end() -> None:
    record = ProxyRecord()
    for here, there in (("a", "b"), ("b", "a")):
        record.add_request("GET", f"http://h.example/{here}", 302, f"/{there}")
    assert record.materials() == {}


def test_a_record_is_kept_as_json() -> None:
    record = ProxyRecord()
    record.add_material("http://h.example/a", TWO)
    record.add_uncaptured("POST", "http://h.example/b", "method_not_materializable")
    kept = json.loads(json.dumps({META: record.facts(), "seconds": 1.0}))
    assert facts_of(kept) == (
        {"http://h.example/a": TWO},
        [Uncaptured("POST", "http://h.example/b", "method_not_materializable")],
    )


@pytest.mark.parametrize(
    "kept",
    [{}, {META: None}, {META: {"materials": {}}}, {META: {"materials": {}, "uncaptured": [1]}}],
)
def test_what_is_no_record_is_not_known(kept: dict[str, object]) -> None:
    assert facts_of(kept) is None


def test_a_url_that_is_none_is_shown_as_it_is() -> None:
    assert shown_url("http://h.example:eighty/") == "http://h.example:eighty/"
    assert shown_url("https://[::1]:443/a") == "https://[::1]/a"


@pytest.mark.parametrize(
    ("url", "judged"),
    [
        ("http://h/denied", "http://h/denied"),
        ("http://H.:0080/denied", "http://h/denied"),
        ("http://me:word@h/%64eni%65d", "http://xxxxx:xxxxx@h/denied"),
        ("http://h/a/../denied", "http://h/denied"),
        ("http://h/a/%2E%2e/denied/", "http://h/denied/"),
        ("http://h/./", "http://h/"),
        ("http://h/a/..", "http://h/"),
        ("http://h?q=%41%2f", "http://h/?q=A%2F"),
        ("http://h/a%2fb//c", "http://h/a%2Fb//c"),
        ("https://[::1]:443/", "https://[::1]/"),
    ],
)
def test_policies_judge_one_spelling_of_a_url(url: str, judged: str) -> None:
    """[POL-1]"""
    assert judged_url(url) == judged


def _head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_head_is_read() -> None:
    request = parse_head(_head("GET http://h/ HTTP/1.1", "Host: h", "X-A:  b ", "Range: bytes=1-"))
    assert (request.method, request.target, request.length) == ("GET", "http://h/", 0)
    assert request.keeps
    assert request.header("x-a") == "b"
    assert request.forwarded() == ["X-A: b", "Range: bytes=1-"]


def test_headers_about_the_way_go_no_further() -> None:
    lines = ("Connection: close, X-Own", "X-Own: 1", "Proxy-Authorization: Basic x", "Cookie: c")
    request = parse_head(_head("GET http://h/ HTTP/1.1", *lines))
    assert request.forwarded() == ["Cookie: c"]
    assert not request.keeps


@pytest.mark.parametrize(
    "lines",
    [
        ("GET http://h/",),
        ("GET  http://h/ HTTP/1.1",),
        ("GET http://h/ HTTP/2.0",),
        ("G@T http://h/ HTTP/1.1",),
        ("GET http://h/\x01 HTTP/1.1",),
        ("GET http://h/\xe4 HTTP/1.1",),
        ("GET http://h/ HTTP/1.1", "No colon"),
        ("GET http://h/ HTTP/1.1", " folded: x"),
        ("GET http://h/ HTTP/1.1", "A: b\nC: d"),
        ("POST http://h/ HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
        ("POST http://h/ HTTP/1.1", "Content-Length: -1"),
        ("POST http://h/ HTTP/1.1", "Content-Length: 9" + "9" * 30),
        ("POST http://h/ HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"),
        ("POST http://h/ HTTP/1.1", "Transfer-Encoding: gzip, chunked"),
        ("POST http://h/ HTTP/1.0", "Transfer-Encoding: chunked"),
    ],
)
def test_a_head_that_may_mean_two_things_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadRequest):
        parse_head(_head(*lines))


@pytest.mark.parametrize("data", [b"GET http://h/ HTT", b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000])
def test_a_head_without_an_end_is_refused(data: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader(limit=64 << 10)
        reader.feed_data(data)
        reader.feed_eof()
        await read_request(reader)

    with pytest.raises(BadRequest):
        asyncio.run(read())
