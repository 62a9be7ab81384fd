"""JSON as no writer of JSON writes it: depth, numbers of any length, NaN, names twice, bytes that are no text."""

from __future__ import annotations

import re
from random import Random

_WRITTEN = (
    *(b"NaN", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"1" + b"0" * 400, b"01", b"0x1"),
    *(
        b"1E400",
        b"-",
        b"+1",
        b"1.",
        b"1_0",
        b"true1",
        b"tru",
        b"'a'",
        b"",
        b"\0",
        b"\xef\xbb\xbf{}",
    ),
    *(
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\u00"',
        b'"\\x"',
        b'"\n"',
    ),
    *(
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b"[" * 900 + b"]" * 900,
        b'{"a":' * 400 + b"1" + b"}" * 400,
    ),
    *(
        b'"%b"' % (b"a" * 70_000),
        b"[%b0]" % (b"0," * 20_000),
        b"{}{}",
        b"/**/1",
        b'{"a":1,"A":[],"a":{}}',
    ),
)
_PLACE = re.compile(rb'(?<=[:\[,])\s*(?:-?[0-9][0-9.eE+-]*|true|false|null|"[^"\\]*")')


def spoiled(random: Random, data: bytes) -> bytes:
    """Return JSON with something in it that no writer of JSON writes: as text, as number, as depth, or all of it twice."""
    written = random.choice(_WRITTEN)
    places = list(_PLACE.finditer(data))
    if data.startswith(b"{") and random.random() < 0.1:
        return data[:-1] + (b"," if len(data) > 2 else b"") + data[1:]
    if not places or random.random() < 0.1:
        return written
    place = random.choice(places)
    return data[: place.start()] + written + data[place.end() :]
