"""Inputs of results are kept beside them, bounded, and never believed more than they must be."""

from __future__ import annotations

import os

import pytest

from pybuild.cache.records import inputs as module
from pybuild.cache.records.inputs import INPUTS, Inputs
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.named import NamedInputs

KEY = Digest.of(b"key")
CONTENT = Digest.of(b"content")


def made_of(content: Digest, count: int = 3) -> NamedInputs:
    listing = tuple((f"dir/file-{n:06}", f"100644 0:0 {n} {n:016x}") for n in range(count))
    return NamedInputs({"op": {}, "inputs": [{"content": [content]}]}, {content: listing})


def test_they_come_back_with_their_files(store: Store) -> None:
    kept = Inputs(store)
    odd = NamedInputs({"op": {}}, {CONTENT: ((os.fsdecode(b"caf\xe9\n"), "120777 0:0 0 >a b"),)})
    kept.put(KEY, "[1/2] COPY", odd)
    found = kept.get(KEY)
    assert found is not None
    assert (found.key, found.name, found.parts) == (KEY, "[1/2] COPY", odd.parts)
    assert [one.key for one in kept.all()] == [KEY]
    assert kept.listing(CONTENT) == odd.listings[CONTENT]
    assert kept.get(CONTENT) is None
    assert kept.listing(KEY) is None


def test_when_a_result_was_first_made_is_remembered(store: Store) -> None:
    kept = Inputs(store)
    kept.put(KEY, "", NamedInputs())
    first = kept.get(KEY)
    store.records.put(INPUTS, KEY, {**(store.records.get(INPUTS, KEY) or {}), "first": 5.0})
    kept.put(KEY, "", NamedInputs())
    again = kept.get(KEY)
    assert first is not None
    assert again is not None
    assert again.first == 5.0 != first.first


def test_the_oldest_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    kept = Inputs(store)
    digests = [Digest.of(b"%d" % n) for n in range(12)]
    for n, digest in enumerate(digests):
        kept.put(digest, str(n), made_of(digest))
        row = store.records.get(INPUTS, digest) or {}
        store.records.put(INPUTS, digest, {**row, "at": float(n)})
    kept.trim()
    assert sorted(int(one.name) for one in kept.all()) == list(range(3, 12))


def test_below_the_bounds_no_value_is_read_to_trim(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Inputs(store)
    kept.put(KEY, "", made_of(CONTENT, 20_000))

    def items(kind: str) -> None:
        raise AssertionError(f"all records of {kind} were read")

    monkeypatch.setattr(store.records, "items", items)
    kept.trim()
    assert kept.listing(CONTENT) is not None
