"""Caches as documents: written, read again, and read when somebody else wrote them [CCH-11, CCH-16]."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pybuild.image.cacheformat.config import (
    CacheContents,
    CachedLayer,
    CachedResult,
    write_config,
    write_inline,
)
from pybuild.image.cacheformat.read import MAX_DEPTH, read_config, read_inline
from pybuild.image.config import INLINE_CACHE
from pybuild.image.manifest import Manifest
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def layer(name: str, *, created: float = 0.0, origin: str = "") -> CachedLayer:
    blob = Descriptor(OCI_LAYER_GZIP, digest("blob " + name), 100)
    return CachedLayer(diff_id=digest(name), blob=blob, created=created, origin=origin)


def contents(*stacks: str) -> CacheContents:
    """A result for each of *stacks*, whose letters are its layers."""
    layers = {digest(name): layer(name, created=1_700_000_000.123456) for name in "".join(stacks)}
    results = tuple(
        CachedResult(
            key=digest("key " + stack),
            layers=tuple(digest(name) for name in stack),
            aliases=(digest("alias " + stack),),
            created=1_700_000_001.5,
            seconds=2.25,
            name=f"[{stack}] RUN x",
        )
        for stack in stacks
    )
    return CacheContents(layers, results)


def by_key(found: CacheContents) -> dict[Digest, CachedResult]:
    return {result.key: result for result in found.results}


def test_what_is_written_is_read_again() -> None:
    made = contents("a", "ab", "abc", "xb", "bx")
    found = read_config(write_config(made))
    assert by_key(found) == by_key(made)
    assert dict(found.layers) == dict(made.layers)


def test_equal_contents_give_equal_bytes_whatever_their_order() -> None:
    made = contents("a", "ab", "xb")
    other = CacheContents(dict(reversed(list(made.layers.items()))), tuple(reversed(made.results)))
    assert write_config(made) == write_config(other)


def test_layers_that_lie_on_the_same_are_written_once() -> None:
    document = json.loads(write_config(contents("ab", "abc", "abd")))
    assert len(document["layers"]) == 4
    assert [one["parent"] for one in document["layers"]].count(-1) == 1


def test_a_link_and_a_layer_of_elsewhere_survive() -> None:
    link = CachedResult(key=digest("k"), aliases=(digest("d"),))
    base = layer("base", origin="docker.io/library/alpine:3@" + digest("alpine"))
    top = layer("top")
    result = CachedResult(key=digest("r"), layers=(base.diff_id, top.diff_id))
    made = CacheContents({base.diff_id: base, top.diff_id: top}, (link, result))
    found = read_config(write_config(made))
    assert by_key(found) == by_key(made)
    assert found.carried == [top]


def test_an_image_carries_stacks_in_its_own_order_and_in_others() -> None:
    made = contents("a", "ab", "b", "cb")
    diff_ids = [digest(name) for name in "abc"]
    text = write_inline(made, diff_ids)
    layers = tuple(Descriptor(OCI_LAYER_GZIP, digest("blob " + n), 100) for n in "abc")
    manifest = Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, digest("config"), 10), layers)
    config = {
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            {"created": "2023-11-14T22:13:20.123456Z"},
            {"created": "2023-11-14T22:13:21Z", "empty_layer": True},
            {"created": "2023-11-14T22:13:20.123456Z"},
            {"created": "2023-11-14T22:13:20.123456Z"},
        ],
        INLINE_CACHE: text,
    }
    found = read_inline(manifest, config)
    assert found is not None
    assert by_key(found) == by_key(made)
    assert dict(found.layers) == dict(made.layers)
    assert (
        read_inline(manifest, {name: v for name, v in config.items() if name != INLINE_CACHE})
        is None
    )


def test_a_cache_of_the_reference_is_read() -> None:
    """Shaped as cache/remotecache/v1/types has it: inputs, selectors, several results."""
    blob = digest("blob")
    notes = {"mediaType": OCI_LAYER_GZIP, "diffID": digest("a"), "size": 7}
    document = {
        "layers": [
            {"blob": digest("top"), "parent": 1, "annotations": {**notes, "diffID": digest("b")}},
            {"blob": blob, "parent": -1, "annotations": notes},
            {"blob": digest("bare"), "parent": -1},
        ],
        "records": [
            {"digest": digest("root")},
            {
                "digest": digest("one"),
                "inputs": [[{"selector": "sel", "link": 0}], [{"link": 2}]],
                "layers": [{"layer": 2}, {"layer": 0, "createdAt": "2024-01-01T00:00:00Z"}],
            },
            {"digest": digest("two"), "chains": [{"layers": [1, 0]}], "inputs": [[{"link": 1}]]},
            {"digest": digest("bare"), "layers": [{"layer": 2}]},
        ],
    }
    found = by_key(read_config(json.dumps(document).encode()))
    assert {key: result.layers for key, result in found.items()} == {
        digest("one"): (digest("a"), digest("b")),
        digest("two"): (digest("a"), digest("b")),
    }
    assert found[digest("one")].created == 1704067200.0


GOOD: dict[str, Any] = {
    "layers": [
        {
            "blob": digest("x"),
            "parent": -1,
            "annotations": {"diffID": digest("d"), "size": 1, "mediaType": OCI_LAYER_GZIP},
        }
    ],
    "records": [{"digest": digest("r"), "layers": [{"layer": 0}]}],
}


def changed(*path: str | int, value: object) -> bytes:
    document: Any = json.loads(json.dumps(GOOD))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document).encode()


HOSTILE = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "nested for ever": b"[" * 100_000,
    "layers that are a text": changed("layers", value="x"),
    "a layer that is a number": changed("layers", 0, value=7),
    "a layer without a blob": changed("layers", 0, value={}),
    "a digest that is none": changed("layers", 0, "blob", value="sha256:../../etc/passwd"),
    "a diffID that is none": changed("layers", 0, "annotations", "diffID", value="x"),
    "annotations that are a list": changed("layers", 0, "annotations", value=[1]),
    "a layer on itself": changed("layers", 0, "parent", value=0),
    "a layer on one that is not there": changed("layers", 0, "parent", value=9),
    "a layer below nothing": changed("layers", 0, "parent", value=-7),
    "an origin that is no image": changed("layers", 0, "origin", value="../etc"),
    "a parent that is true": changed("layers", 0, "parent", value=True),
    "a record that is a text": changed("records", 0, value="x"),
    "a record without a digest": changed("records", 0, value={"layers": [{"layer": 0}]}),
    "a record that is a path": changed("records", 0, "digest", value="/etc/passwd"),
    "a result that is not there": changed("records", 0, "layers", value=[{"layer": 5}]),
    "a result below nothing": changed("records", 0, "layers", value=[{"layer": -1}]),
    "results that are an object": changed("records", 0, "layers", value={"layer": 0}),
    "chains of nothing": changed("records", 0, "chains", value=[7]),
    "aliases that are none": changed("records", 0, "aliases", value=["x"]),
}


def test_the_good_document_is_good() -> None:
    assert len(read_config(json.dumps(GOOD).encode()).results) == 1


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_documents_are_refused(data: bytes) -> None:
    with pytest.raises(EnvironmentFault):
        read_config(data)


def test_layers_in_a_ring_or_a_tower_are_refused() -> None:
    def tower(count: int, parent_of_first: int) -> bytes:
        one = GOOD["layers"][0]
        layers = [{**one, "parent": at - 1 if at else parent_of_first} for at in range(count)]
        record = {"digest": digest("r"), "layers": [{"layer": count - 1}]}
        return json.dumps({"layers": layers, "records": [record]}).encode()

    assert len(read_config(tower(MAX_DEPTH, -1)).results) == 1
    for data in (tower(MAX_DEPTH + 1, -1), tower(5, 4)):
        with pytest.raises(EnvironmentFault, match="below each other"):
            read_config(data)


def test_results_that_name_many_layers_together_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Towers stand once in the document and once more for each result that is on them."""
    monkeypatch.setattr("pybuild.image.cacheformat.read.MAX_NAMED", 100)
    layers = [{**GOOD["layers"][0], "parent": at - 1} for at in range(10)]

    def document(results: int) -> bytes:
        records = [
            {"digest": digest(f"r{number}"), "layers": [{"layer": 9}]} for number in range(results)
        ]
        return json.dumps({"layers": layers, "records": records}).encode()

    assert len(read_config(document(10)).results) == 10
    with pytest.raises(EnvironmentFault, match="more than 100 layers together"):
        read_config(document(11))


@pytest.mark.parametrize("size", [-1, None, True, "9", 1.5])
def test_a_layer_whose_size_nobody_knows_is_not_used(size: object) -> None:
    found = read_config(changed("layers", 0, "annotations", "size", value=size))
    assert found.results == ()


def test_names_and_times_that_are_nonsense_are_harmless() -> None:
    record = {"createdAt": "yesterday", "layer": 0}
    document = {**GOOD, "records": [{"digest": digest("r"), "layers": [record], "seconds": "x"}]}
    (result,) = read_config(json.dumps(document).encode()).results
    assert (result.created, result.seconds) == (0.0, 0.0)


@pytest.mark.parametrize(
    "text",
    ["!", 7, [], base64.b64encode(b"{").decode(), base64.b64encode(b'[{"digest": 1}]').decode()],
)
def test_hostile_inline_caches_are_refused_or_empty(text: object) -> None:
    manifest = Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, digest("config"), 10), ())
    try:
        found = read_inline(manifest, {"rootfs": {"diff_ids": []}, INLINE_CACHE: text})
    except EnvironmentFault as error:
        assert "broken inline cache" in error.message
    else:
        assert found is not None and found.results == ()
