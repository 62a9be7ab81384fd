"""Inputs of a result are carried small, or not at all, and read with no trust in them."""

from __future__ import annotations

import base64
import json
import random
import zlib

import pytest

from pybuild.image.cacheformat.config import CacheContents, CachedResult, write_config, write_inline
from pybuild.image.cacheformat.namedinputs import MAX_TEXT, MAX_TOTAL, pack, unpack
from pybuild.image.cacheformat.read import read_config
from pybuild.model.digest import Digest
from pybuild.model.named import NamedInputs

MADE_OF = NamedInputs({"op": {"env": ["A=1"]}}, {"digest": (("f\udce9", "100644 0:0 1 00"),)})


def noise(size: int) -> str:
    return random.Random(size).randbytes(size).hex()


def test_it_comes_back_as_it_was() -> None:
    assert unpack(pack(MADE_OF)) == MADE_OF
    assert pack(MADE_OF) == pack(NamedInputs(dict(MADE_OF.parts), dict(MADE_OF.listings)))


def test_long_lists_are_left_out_and_then_all_of_it() -> None:
    listing = tuple((noise(100 + n), "look") for n in range(2000))
    found = unpack(pack(NamedInputs(MADE_OF.parts, {"digest": listing})))
    assert found == NamedInputs(MADE_OF.parts)
    assert pack(NamedInputs({"op": noise(MAX_TEXT)})) == ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"parts": 1, "listings": {}}',
        b'{"parts": {}, "listings": {"d": [1]}}',
        b"[" * 100_000,
        b'{"parts": {}, "listings": {}, "x": "' + b"x" * (3 << 20) + b'"}',
    ],
)
def test_nonsense_is_nothing(data: bytes) -> None:
    assert unpack(base64.b64encode(zlib.compress(data)).decode()) is None


@pytest.mark.parametrize("text", ["", "!", "AAAA", "x" * (MAX_TEXT + 1)])
def test_what_was_never_packed_is_nothing(text: str) -> None:
    assert unpack(text) is None


def test_caches_carry_it_and_images_do_not() -> None:
    result = CachedResult(
        key=Digest.of(b"k"), aliases=(Digest.of(b"a"),), packed_inputs=pack(MADE_OF)
    )
    contents = CacheContents({}, (result,))
    assert read_config(write_config(contents)).results == (result,)
    assert "madeOf" not in base64.b64decode(write_inline(contents, [])).decode()


def test_a_document_has_room_for_so_much_of_it_the_latest_first() -> None:
    text = "x" * MAX_TEXT
    results = tuple(
        CachedResult(
            key=Digest.of(b"%d" % n),
            aliases=(Digest.of(b"a%d" % n),),
            used=float(n),
            packed_inputs=text,
        )
        for n in range(60)
    )
    records = json.loads(write_config(CacheContents({}, results)))["records"]
    assert sum("madeOf" in record for record in records) == MAX_TOTAL // MAX_TEXT
    kept = {record["digest"] for record in records if "madeOf" in record}
    assert Digest.of(b"59") in kept
    assert Digest.of(b"0") not in kept
