"""HTTP answers as bytes: however they are cut, whatever a stranger's server sends."""

from __future__ import annotations

import random

import pytest

from pybuild.net.http1.answer import Answer, BadAnswer

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE: dict[str, tuple[str, bytes, int, bytes, bool]] = {
    # method, bytes, status, body, whether the connection is kept
    "sized": ("GET", OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "empty": ("GET", OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "chunked": (
        "GET",
        OK
        + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
        200,
        b"hello",
        True,
    ),
    "head": ("HEAD", OK + b"Content-Length: 5000\r\n\r\n", 200, b"", True),
    "no content": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "closing": (
        "GET",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        False,
    ),
    "old": ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "interim": (
        "PUT",
        b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        201,
        b"",
        True,
    ),
    "surplus": ("GET", OK + b"Content-Length: 2\r\n\r\nhi" + OK + b"\r\n", 200, b"hi", False),
    "surplus after head": ("HEAD", OK + b"Content-Length: 2\r\n\r\nhi", 200, b"", False),
}


def fed(method: str, data: bytes, cuts: random.Random | None = None) -> Answer:
    answer = Answer(method)
    while data:
        size = len(data) if cuts is None else cuts.randint(1, 4)
        answer.feed(data[:size])
        data = data[size:]
    return answer


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_answers_are_read_however_they_are_cut(case: str, seed: int | None) -> None:
    method, data, status, body, keeps = WHOLE[case]
    answer = fed(method, data, None if seed is None else random.Random(seed))
    assert (answer.status, answer.is_complete, answer.keeps) == (status, True, keeps)
    assert b"".join(answer.pieces) == body
    assert "X" not in answer.headers and "Trailer" not in answer.headers


def test_a_body_without_length_ends_with_the_connection() -> None:
    answer = fed("GET", OK + b"\r\nhello")
    assert not answer.is_complete
    assert answer.end() and not answer.keeps
    assert b"".join(answer.pieces) == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        OK,
        OK + b"Content-Length: 6\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_what_is_cut_is_not_whole(data: bytes) -> None:
    assert not fed("GET", data).end()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"No colon\r\n\r\n",
        OK + b"Split\r\n header: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        fed("GET", data)


@pytest.mark.parametrize("endless", [b"A: " + b"x" * 1000 + b"\r\n", b"x" * 1000])
def test_endless_heads_are_refused(endless: bytes) -> None:
    answer = fed("GET", OK + b"B: ")
    with pytest.raises(BadAnswer, match="its head is longer than 65536 bytes"):
        for _ in range(100):
            answer.feed(endless)


def test_endless_interim_answers_are_refused() -> None:
    answer = Answer("GET")
    with pytest.raises(BadAnswer, match="its head is longer"):
        for _ in range(10_000):
            answer.feed(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize(
    "begun, endless",
    [
        (b"3\r\nabc\r\n0\r\n", b"A: " + b"x" * 1000 + b"\r\n"),
        (b"3\r\nabc\r\n0\r\nA:", b"x" * 1000),
        (b"3;", b"x" * 1000),
    ],
    ids=["trailers", "trailer", "chunk extension"],
)
def test_endless_bytes_beside_the_body_are_refused(begun: bytes, endless: bytes) -> None:
    """They come to nobody's notice, and a trailer costs the square of its length to take in."""
    answer = fed("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n" + begun)
    with pytest.raises(BadAnswer, match="more than 65536 bytes in which nothing of its body is"):
        for _ in range(100):
            answer.feed(endless)


def test_a_body_in_the_smallest_chunks_is_read() -> None:
    answer = fed("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(20_000):
        for part in (b"1;x=y\r\n", b"a", b"\r\n"):
            answer.feed(part)
    answer.feed(b"0\r\n\r\n")
    assert answer.is_complete and len(answer.pieces) == 20_000


@pytest.mark.parametrize(
    ("begin", "problem"),
    [
        (OK + b"X: ", "its head is longer than 65536 bytes"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n5;",
            "there is more than 65536 bytes in which nothing of its body is",
        ),
    ],
)
def test_so_much_without_a_body_is_read_and_no_more(begin: bytes, problem: str) -> None:
    answer = fed("GET", begin + b"x" * (65536 - len(begin)))
    assert not answer.is_complete
    with pytest.raises(BadAnswer) as caught:
        answer.feed(b"x")
    assert str(caught.value) == problem


def test_a_piece_of_the_body_begins_the_count_anew() -> None:
    answer = fed("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n")
    answer.feed(b"1;" + b"x" * 60000)
    answer.feed(b"\r\na\r\n")
    rest = b"1;" + b"x" * 65534
    answer.feed(rest)
    with pytest.raises(BadAnswer):
        answer.feed(b"x")
    assert b"".join(answer.pieces) == b"a"
