"""Layers and manifests to begin with, and what is done to them."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable

import zstandard

from pybuild.image.layer import tarformat
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST

BLOCK = 512
_DIGEST = "sha256:" + "a1" * 32
_PLAIN = (b"a", b"b", b"a/b", b"b/a/c", b"d/", b"d", b"./a", b"/a", b"a//b", b".wh.a", b"low/x")
_NAMES = (
    *(b".", b"./", b"/", b"", b"lowlink", b"low/", b"d/.wh.b"),
    *(b"..", b"../x", b"a/../../x", b"/../x", b"a/..", b"../outside/victim", b"b/victim"),
    *(b".wh.a", b"a/.wh.b", b".wh..wh..opq", b"a/.wh..wh..opq", b".wh.", b".wh...", b".wh.a/x"),
    *(b".wh..wh.plnk", b"low", b"low/x", b"lowlink/x", b"\xff\xfe", b"n" * 255, b"x" * 256),
    *(b"p/" * 60 + b"q", b"a\nb", "ü".encode()),
)
_LINKS = (
    *(b"a", b"b", b"a/b", b".", b"..", b"../..", b"/", b"../outside", b"../outside/victim", b""),
    *(b"/proc/self/root", b"/proc/self/fd/0", b".wh.a", b"low/x", b"lowlink/x", b"\xff", b"l" * 99),
)
_KINDS = b"000000011112222223345555567xxxgLK\0"
_PAX = (
    *(b"path=a", b"path=../x", b"path=/x", b"linkpath=../outside", b"linkpath=a", b"size=0"),
    *(b"size=5", b"size=-1", b"size=99999999999999999999", b"uid=0", b"uid=4294967294", b"gid=x"),
    *(b"mtime=1.5", b"mtime=-1.123456789012", b"mtime=now", b"mtime=99999999999999999999"),
    *(b"SCHILY.xattr.user.a=1", b"SCHILY.xattr.trusted.overlay.opaque=y"),
    *(b"SCHILY.xattr.security.capability=\1\0\0\2", b"SCHILY.xattr.user.overlay.redirect=/x"),
    *(b"SCHILY.xattr.user.overlay.opaque=y", b"SCHILY.xattr.=v", b"GNU.sparse.major=1", b"path=\0"),
    *(b"hdrcharset=BINARY", b"path=", b"SCHILY.xattr.user.pybuild.node=c:1:3"),
)
_NUMBERS = (
    b"\xff" * 8,
    b"\x80" + b"\x7f" * 7,
    b"7777777\0",
    b"0000000\0",
    b"-000001\0",
    b" 12 \0abc",
)
_FIELDS = (0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 265, 329, 337, 345)
_VALUES: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 2, 1 << 70, 1.5, float("inf"), "", "x", "sha256:", _DIGEST),
    *(
        list[object](),
        dict[str, object](),
        [list[object]()],
        [None],
        {"": ""},
        "\ud800",
        "a\nb\x1b[0m",
        OCI_INDEX,
        OCI_MANIFEST,
    ),
)


def layer(rng: random.Random, outside: bytes) -> bytes:
    """Make a layer of a few entries, some of them as no tool would write them.

    Args:
        outside: the absolute name of a directory that nothing may change.
    """
    parts = [_entry(rng, outside) for _ in range(rng.randrange(1, 9))]
    data = b"".join(parts) + (tarformat.END if rng.random() < 0.9 else b"")
    dice = rng.random()
    if dice < 0.2:
        data = _scratched(data, rng)
    if dice < 0.15 or dice > 0.97:
        data = (
            gzip.compress(data, 1, mtime=0) if rng.random() < 0.5 else zstandard.compress(data, 1)
        )
        if rng.random() < 0.7:
            data = _scratched(data, rng)
    return data


def _entry(rng: random.Random, outside: bytes) -> bytes:
    kind = bytes((rng.choice(_KINDS),))
    link = rng.choice((*_LINKS, outside, outside + b"/victim"))
    name = rng.choice(_PLAIN if rng.random() < 0.85 else (*_NAMES, outside + b"/new"))
    if rng.random() < 0.01:
        kind = rng.choice((b"S", b"V", b"Z"))
    content = b""
    if kind in b"07" or rng.random() < 0.03:
        content = rng.randbytes(rng.choice((0, 0, 1, 5, 511, 512, 513)))
    if kind in b"xg":
        content = b"".join(_record(rng.choice(_PAX), rng) for _ in range(rng.randrange(1, 4)))
    elif kind in b"LK":
        content = rng.choice((*_PLAIN, *_NAMES) if kind == b"L" else _LINKS) + b"\0"
    header = bytearray(
        tarformat.entry(
            name[:99] if kind != b"L" else b"l",
            b"0",
            size=len(content),
            mode=rng.choice((0, 0o644, 0o755, 0o4755, 0o7777)),
            uid=rng.choice((0, 1, 65534)),
            link=link[:99],
            major=rng.choice((0, 1)) if kind in b"34" else 0,
            minor=rng.choice((0, 3)) if kind in b"34" else 0,
        )[:BLOCK]
    )
    header[156:157] = kind
    if rng.random() < 0.04:
        number = rng.choice(_NUMBERS)
        at = rng.choice(_FIELDS)
        header[at : at + len(number)] = number
    if rng.random() < 0.99:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % (sum(header) & 0o777777)
    return bytes(header) + content + tarformat.padding(len(content))


def _record(text: bytes, rng: random.Random) -> bytes:
    """Make a PAX record; now and then one whose length lies."""
    size = len(text) + 2
    while len(str(size)) + len(text) + 2 != size:
        size += 1
    if rng.random() < 0.02:
        size += rng.choice((-1, 1, 9, 900))
    return b"%d %s\n" % (size, text)


def _scratched(data: bytes, rng: random.Random) -> bytes:
    """Change, cut, double or insert a few bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(5):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.randrange(256)
            case 2:
                del out[at : at + rng.choice((1, 2, BLOCK, len(out)))]
            case 3:
                out[at:at] = out[at : at + rng.choice((1, 8, BLOCK))]
            case _:
                out[at:at] = rng.randbytes(rng.choice((1, 4, BLOCK)))
    return bytes(out)


def _descriptor(media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _DIGEST, "size": 7, **more}


def documents() -> list[dict[str, object]]:
    """Manifests, indexes and configs that are all right."""
    layers = [_descriptor(OCI_LAYER_GZIP, annotations={"k": "v"})]
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    return [
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "x/y",
            "config": _descriptor(OCI_CONFIG),
            "layers": layers,
            "subject": _descriptor(OCI_MANIFEST),
            "annotations": {"a": "b"},
        },
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                _descriptor(OCI_MANIFEST, platform=platform),
                _descriptor(OCI_INDEX),
                _descriptor(OCI_MANIFEST, artifactType="a/b"),
            ],
        },
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["A=b"],
                "Cmd": ["sh"],
                "Labels": {"a": "b"},
                "ExposedPorts": {"80/tcp": {}},
            },
            "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
            "history": [{"created_by": "x", "empty_layer": True}],
        },
        {"name": "a", "tags": ["1", "2"], "repositories": ["a", "b"], "results": [{"name": "a"}]},
        {"errors": [{"code": "DENIED", "message": "no"}], "token": "t", "expires_in": 5},
    ]


def document(rng: random.Random) -> bytes:
    """Make a document with a few of its values, keys or bytes changed."""
    value: object = rng.choice(documents())
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        value = _changed(value, rng)
    if rng.random() < 0.02:
        depth = rng.choice((10, 1000, 100_000))
        return b'{"layers":' * depth if rng.random() < 0.5 else b"[" * depth + b"]" * depth
    data = json.dumps(value).encode()
    return _scratched(data, rng) if rng.random() < 0.3 else data


def _changed(value: object, rng: random.Random) -> object:
    """Change one value somewhere below."""
    spots: list[Callable[[], None]] = []

    def visit(inside: object) -> None:
        if isinstance(inside, dict):
            items: dict[str, object] = inside  # pyright: ignore[reportUnknownVariableType]
            for key in list(items):
                spots.append(lambda items=items, key=key: _set(items, key, rng))  # type: ignore[misc]
                visit(items[key])
        elif isinstance(inside, list):
            members: list[object] = inside  # pyright: ignore[reportUnknownVariableType]
            for at in range(len(members)):
                spots.append(lambda members=members, at=at: _put(members, at, rng))  # type: ignore[misc]
                visit(members[at])

    visit(value)
    if not spots or rng.random() < 0.02:
        return _value(rng)
    rng.choice(spots)()
    return value


def _set(items: dict[str, object], key: str, rng: random.Random) -> None:
    if rng.random() < 0.2:
        del items[key]
    elif rng.random() < 0.2:
        other = rng.choice(("layers", "manifests", "config", "subject", "size"))
        items[other] = copy.deepcopy(items[key])
    else:
        items[key] = _value(rng)


def _put(members: list[object], at: int, rng: random.Random) -> None:
    if rng.random() < 0.2:
        members.extend(members[:at] * rng.choice((1, 50)))
    else:
        members[at] = _value(rng)


def _value(rng: random.Random) -> object:
    return copy.deepcopy(rng.choice(_VALUES))
