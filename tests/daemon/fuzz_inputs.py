"""Byte streams to begin with, and what is done to them."""

from __future__ import annotations

import gzip
import random

from pybuild.net.grpc.messages import prefix
from pybuild.net.http2.compression import encode
from pybuild.net.http2.events import Fields
from pybuild.net.http2.frames import FrameType, frame
from tests.net.wire import (
    END_HEADERS,
    GREETING,
    PADDED,
    PRIORITY,
    REQUEST,
    RESPONSE,
    data,
    headers,
    reset,
    settings,
    window,
)

END = END_HEADERS | 1
_NUMBERS = (0, 1, 2, 4, 5, 8, 9, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0xBE, 0xFF)


def _path(name: bytes) -> Fields:
    return [(b":path", name) if key == b":path" else (key, value) for key, value in REQUEST]


def _requests() -> list[bytes]:
    one = prefix(5) + b"hello"
    zipped = gzip.compress(b"hello")
    echo, everything = _path(b"/test.Echo/One"), _path(b"/test.Echo/All")
    block = encode(echo)
    huffman = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"
    return [
        headers(1, echo) + data(1, one, end=True) + headers(3, echo) + data(3, one, end=True),
        headers(1, everything) + data(1, one * 3) + data(1, one[:4]) + data(1, one[4:], end=True),
        headers(1, [*echo, (b"grpc-timeout", b"5S"), (b"a-bin", b"AAE"), (b"b", b"c")])
        + data(1, one, end=True),
        headers(1, [*echo, (b"grpc-encoding", b"gzip")])
        + data(1, b"\1" + len(zipped).to_bytes(4, "big") + zipped, end=True),
        headers(1, [*echo, (b"content-length", b"10")]) + data(1, one, end=True),
        headers(1, everything) + data(1, one) + reset(1) + window(0, 9) + headers(3, echo),
        headers(1, everything) + data(1, one) + headers(1, [(b"x", b"y")], flags=END),
        settings(s1=0, s3=9, s4=100, s5=16384, s6=4096)
        + headers(1, everything)
        + data(1, one * 40)
        + window(1, 500)
        + settings(s4=0)
        + window(0, 100_000)
        + settings(s4=70_000),
        frame(FrameType.HEADERS, 0, 1, block[:9])
        + frame(FrameType.CONTINUATION, 0, 1, block[9:20])
        + frame(FrameType.CONTINUATION, END_HEADERS, 1, block[20:])
        + data(1, one, end=True),
        frame(
            FrameType.HEADERS, PADDED | PRIORITY | END_HEADERS, 1, b"\2\0\0\0\0\7" + block + b"\0\0"
        )
        + frame(FrameType.DATA, PADDED, 1, b"\3" + one + b"\0\0\0")
        + data(1, end=True),
        frame(FrameType.PING, 0, 0, b"12345678")
        + frame(FrameType.PING, 1, 0, b"87654321")
        + frame(FrameType.PRIORITY, 0, 3, bytes(5))
        + frame(99, 7, 3, b"??")
        + headers(1, echo)
        + frame(FrameType.GOAWAY, 0, 0, bytes(8) + b"bye")
        + data(1, one, end=True),
        frame(FrameType.HEADERS, END, 1, b"\x40\x01a\x01b" + huffman)
        + frame(FrameType.HEADERS, END, 3, huffman + b"\xbf\xbe\xbf"),
        headers(1, _path(b"/test.Echo/Missing"), flags=END) + headers(3, REQUEST[:4], flags=END),
    ]


def _answers() -> list[bytes]:
    one = prefix(5) + b"hello"
    good = [(b"grpc-status", b"0"), (b"t-bin", b"AAE")]
    bad = [
        (b"grpc-status", b"5"),
        (b"grpc-message", b"n%C3%B6"),
        (b"grpc-status-details-bin", b"CAk"),
    ]
    return [
        headers(1, RESPONSE)
        + data(1, one)
        + headers(1, good, flags=END)
        + headers(3, RESPONSE)
        + data(3, one * 3)
        + headers(3, good, flags=END)
        + reset(3, 0),
        headers(1, [*RESPONSE, *bad], flags=END)
        + headers(3, RESPONSE)
        + headers(3, bad, flags=END),
        headers(1, [(b":status", b"103")]) + headers(1, RESPONSE) + data(1, one) + reset(1, 0),
        settings(s3=1, s4=3, s5=16384)
        + headers(1, RESPONSE)
        + window(1, 100)
        + window(0, 100)
        + frame(FrameType.PING, 0, 0, bytes(8))
        + headers(1, good, flags=END),
        headers(1, RESPONSE)
        + frame(FrameType.GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4))
        + data(1, one[:3])
        + data(1, one[3:])
        + headers(1, good, flags=END),
        headers(1, [(b":status", b"503")], flags=END) + reset(3, 7),
    ]


def seeds() -> dict[str, list[bytes]]:
    """Return valid inputs by target."""
    requests = [GREETING + each for each in _requests()]
    answers = [settings(s4=1 << 20) + each for each in _answers()]
    parsers = [
        bytes((number,)) + each
        for number, some in enumerate(
            (
                [encode(REQUEST), b"\x20\x40\x01a\x01b\xbe\x3f\xe1\x1f"],
                [prefix(3) + b"abc" + prefix(0), b"\1\0\0\0\x05" + gzip.compress(b"x")],
                [b"15S", b"99999999n"],
                [b"5\nn%C3%B6\nCAk", b"0\n\n"],
                [b"a\nb\nx-bin\nAAE", b"x-bin\nAA,AQ=="],
            )
        )
        for each in some
    ]
    return {
        "server": requests,
        "grpc_server": requests,
        "client": answers,
        "grpc_client": answers,
        "parsers": parsers,
    }


def changed(data: bytes, corpus: list[bytes], rng: random.Random) -> bytes:
    """Return *data* with up to eight changes, half of which respect the frames' limits."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        pieces = cut(data)
        if len(pieces) > 2 and rng.random() < 0.5:
            data = b"".join(_frames(pieces, corpus, rng))
        else:
            data = _bytes(data, rng)
    return data[:200_000]


def cut(data: bytes) -> list[bytes]:
    """Return the frames of *data*, after the preface if it has one; a broken end is a piece."""
    pieces: list[bytes] = []
    if data.startswith(b"PRI"):
        pieces.append(data[:24])
        data = data[24:]
    while data:
        size = int.from_bytes(data[:3], "big") + 9
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def _frames(pieces: list[bytes], corpus: list[bytes], rng: random.Random) -> list[bytes]:
    at = rng.randrange(1, len(pieces))
    match rng.randrange(7):
        case 0:
            del pieces[at]
        case 1:
            pieces[at:at] = [pieces[at]] * rng.choice((1, 1, 2, 30, 1500))
        case 2:
            other = rng.randrange(1, len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        case 3:
            pieces.insert(at, rng.choice(cut(rng.choice(corpus))))
        case 4:  # another type, flags, or stream
            piece = bytearray(pieces[at])
            if len(piece) >= 9:
                where = rng.choice((3, 4, 8))
                piece[where] = rng.choice((rng.randrange(10), rng.choice(_NUMBERS)))
            pieces[at] = bytes(piece)
        case 5:  # another payload, with the length that belongs to it
            body = _bytes(pieces[at][9:], rng)
            pieces[at] = len(body).to_bytes(3, "big") + pieces[at][3:9] + body
        case _:  # cut in two frames
            body = pieces[at][9:]
            middle = rng.randrange(len(body) + 1)
            pieces[at : at + 1] = [
                len(part).to_bytes(3, "big") + pieces[at][3:9] + part
                for part in (body[:middle], body[middle:])
            ]
    return pieces


def _bytes(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    at = rng.randrange(len(out) + 1)
    match rng.randrange(6):
        case 0 if at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(out):
            out[at] = rng.choice(_NUMBERS)
        case 2:
            del out[at : at + rng.choice((1, 2, 9, 50))]
        case 3:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 5, 100)))
        case 4:
            out[at:at] = bytes((rng.choice(_NUMBERS),)) * rng.choice((1, 4, 9, 3000))
        case _:
            del out[at:]
    return bytes(out)
