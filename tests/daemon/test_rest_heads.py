"""Docker's REST API against requests that are too large, cut, or no HTTP: bytes on its socket, and what comes back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pybuild.daemon.rest.app import RestApi
from pybuild.daemon.rest.exchange import RestHost
from pybuild.daemon.rest.serving import RestServer
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings

_PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n"
_CREATE = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"


def replies(
    folder: Path, *requests: bytes, body_s: float = 60, silence_s: float = 60, end: bytes = b""
) -> list[bytes]:
    """Send each of *requests* on a connection of its own, and return what comes until its end, or to *end*."""

    async def send() -> list[bytes]:
        async with Engine(Settings(root=str(folder / "store"))) as engine:
            host = RestHost(engine, body_s=body_s, silence_s=silence_s)
            runner = web.ServerRunner(RestServer(RestApi(host).answer, keep_alive_s=60))
            await runner.setup()
            await web.UnixSite(runner, str(folder / "s")).start()
            try:
                return [await _reply(str(folder / "s"), data, end) for data in requests]
            finally:
                await runner.cleanup()
                host.close()

    return asyncio.run(send())


async def _reply(path: str, data: bytes, end: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    try:
        return await (reader.readuntil(end) if end else reader.read())
    except ConnectionError:
        return b""
    finally:
        writer.close()


def refusal(reply: bytes) -> tuple[int, Any]:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/json" in head
    return int(head.split()[1]), json.loads(body)["message"]


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (_PING + b"X: " + b"a" * 300_000 + b"\r\n\r\n", 431, "the head of the request is too"),
        (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n", 431, "the head of the request is too"),
        (_PING + b"X: a\r\n" * 1000 + b"\r\n", 431, "the head of the request is too large"),
        (_PING + b"X: %b\r\n" % (b"a" * 100_000) * 10 + b"\r\n", 431, "the head of the request is"),
        (b"\x16\x03\x01 hello\r\n\r\n", 400, ""),
        (_CREATE + b"Content-Length: x\r\n\r\n", 400, "Invalid character in Content-Length:"),
    ],
)
def test_heads_that_are_none(tmp_path: Path, request_: bytes, status: int, message: str) -> None:
    """In docker's form, and the connection ends [ENG-20]."""
    (reply,) = replies(tmp_path, request_)
    found, said = refusal(reply)
    assert found == status
    assert said.startswith(message) and "\n" not in said


def test_heads_as_long_as_those_of_clients(tmp_path: Path) -> None:
    """Logins of many registries are one field, build arguments one line: longer than others' servers take."""
    login = b"X-Registry-Config: " + b"a" * 100_000
    line = b"GET /_ping?x=" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: d\r\n"
    for reply in replies(
        tmp_path, *(part + b"Connection: close\r\n\r\n" for part in (_PING + login + b"\r\n", line))
    ):
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n") and reply.endswith(b"OK")


def test_a_body_that_says_that_it_is_too_large_is_not_waited_for(tmp_path: Path) -> None:
    data = (
        _CREATE
        + b"Connection: close\r\nContent-Length: 60000000000\r\nExpect: 100-continue\r\n\r\n"
    )
    (reply,) = replies(tmp_path, data, end=b"}\n")
    assert b" 413 " in reply.partition(b"{")[0]
    assert b'{"message":"the body is larger than 4194304 bytes"}' in reply


def test_a_body_of_which_the_rest_does_not_come(tmp_path: Path) -> None:
    """A connection with half a body is not kept for ever."""
    (reply,) = replies(tmp_path, _CREATE + b"Content-Length: 100\r\n\r\n{", body_s=0.05, end=b"}\n")
    assert refusal(reply) == (408, "the body did not come in 0.05 seconds")


def test_requests_ahead_of_their_answers(tmp_path: Path) -> None:
    """2,000 at once: answered in order, each once."""
    request = _PING.replace(b"d\r\n", b"d\r\n\r\n")
    (reply,) = replies(tmp_path, request * 2000 + _PING + b"Connection: close\r\n\r\n")
    assert reply.count(b"HTTP/1.1 200 OK\r\n") == 2001


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    """In pieces that are within all bounds, to a connection that has had an answer."""
    fields = b"X: %b\r\n" % (b"a" * 100_000) * 120
    first = _PING + b"\r\n"
    (reply,) = replies(tmp_path, first + _PING + fields, end=b"}\n")
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n") and b" 431 Request Header" in reply


def test_bodies_are_no_heads(tmp_path: Path) -> None:
    body = b'{"Image":"nope","Labels":{"a":"%b"}}' % (b"a" * 1_000_000)
    head = _CREATE + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    pings = (_PING + b"X: " + b"a" * 100_000 + b"\r\n\r\n") * 8
    for reply in replies(tmp_path, head + body, pings + head + body):
        assert b" 404 Not Found\r\n" in reply and b" 431 " not in reply
