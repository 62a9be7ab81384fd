"""A cache is read in any form that it has, and only what is there of it counts [CCH-11, CCH-12]."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pybuild.image.cacheformat.config import (
    CACHE_CONFIG,
    CacheContents,
    CachedLayer,
    CachedResult,
    write_config,
    write_inline,
)
from pybuild.image.config import INLINE_CACHE
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.remotecache.reader import Memo, read_cache
from tests.remotecache.memoryplace import MemoryPlace

ONE, TWO, THREE = (Digest.of(b"diff %d" % n) for n in range(3))
KEYS = tuple(Digest.of(b"key %d" % n) for n in range(4))
ALIAS = Digest.of(b"alias")


def layer(diff_id: Digest, origin: str = "") -> CachedLayer:
    blob = Descriptor(OCI_LAYER, Digest.of(b"blob of " + diff_id.encode()), 7)
    return CachedLayer(diff_id=diff_id, blob=blob, origin=origin)


LAYERS = {ONE: layer(ONE), TWO: layer(TWO, "docker.io/library/base:1"), THREE: layer(THREE)}
RESULTS = (
    CachedResult(key=KEYS[0], layers=(ONE,)),
    CachedResult(key=KEYS[1], layers=(TWO,)),
    CachedResult(key=KEYS[2], layers=(ONE, THREE), aliases=(ALIAS,)),
    CachedResult(key=KEYS[3], layers=(THREE,)),
)
CONFIG = write_config(CacheContents(LAYERS, RESULTS))


def document(place: MemoryPlace, media_type: str, **fields: Any) -> Descriptor:
    body = {"schemaVersion": 2, "mediaType": media_type, **fields}
    return place.add(json.dumps(body).encode(), media_type)


def read(
    place: MemoryPlace, root: Descriptor | None = None, memo: Memo | None = None
) -> CacheContents:
    return asyncio.run(read_cache(place, {} if memo is None else memo, root))


def seen(contents: CacheContents) -> dict[Digest, tuple[Digest, ...]]:
    return {result.key: result.layers for result in contents.results}


def cache(place: MemoryPlace, *diff_ids: Digest, as_index: bool = False) -> Descriptor:
    """A cache whose manifest or index lists these layers alone."""
    config = place.add(CONFIG, CACHE_CONFIG).to_json()
    layers = [LAYERS[diff_id].blob.to_json() for diff_id in diff_ids]
    if as_index:
        return document(place, OCI_INDEX, manifests=[*layers, config])
    return document(place, OCI_MANIFEST, config=config, layers=layers)


@pytest.mark.parametrize("as_index", [False, True])
def test_results_are_there_with_their_layers_or_as_links(as_index: bool) -> None:
    place = MemoryPlace()
    whole = read(place, cache(place, ONE, THREE, as_index=as_index))
    assert seen(whole) == {one.key: one.layers for one in RESULTS}
    assert whole.layers == LAYERS
    part = read(place, cache(place, ONE, as_index=as_index))
    assert seen(part) == {KEYS[0]: (ONE,), KEYS[1]: (TWO,), KEYS[2]: ()}
    assert set(part.layers) == {ONE, TWO}


def test_a_layer_that_was_uploaded_is_the_caches_own() -> None:
    place = MemoryPlace()
    found = read(place, cache(place, TWO))
    assert found.layers[TWO].origin == ""
    assert seen(found) == {KEYS[1]: (TWO,), KEYS[2]: ()}


def test_a_config_alone_is_a_cache() -> None:
    place = MemoryPlace()
    place.name = place.add(CONFIG, CACHE_CONFIG)
    assert len(read(place).results) == 4


def test_what_was_read_once_is_not_read_again() -> None:
    place = MemoryPlace()
    memo: Memo = {}
    root = place.name = cache(place, ONE)
    first = read(place, memo=memo)
    reads = place.reads
    assert read(place, root, memo) is first
    assert place.reads == reads
    read(place, memo=memo)
    assert place.reads > reads  # the place itself must be asked what it has


def image(place: MemoryPlace, *diff_ids: Digest, inline: bool = True) -> Descriptor:
    config: dict[str, Any] = {"rootfs": {"diff_ids": list(diff_ids)}}
    if inline:
        results = (CachedResult(key=KEYS[len(diff_ids)], layers=diff_ids),)
        config[INLINE_CACHE] = write_inline(CacheContents({}, results), diff_ids)
    stored = place.add(json.dumps(config).encode(), OCI_CONFIG).to_json()
    layers = [LAYERS[diff_id].blob.to_json() for diff_id in diff_ids]
    return document(place, OCI_MANIFEST, config=stored, layers=layers)


def test_an_image_carries_a_cache_in_its_config() -> None:
    place = MemoryPlace()
    assert seen(read(place, image(place, ONE))) == {KEYS[1]: (ONE,)}


def test_all_images_of_an_index_give_what_they_carry() -> None:
    place = MemoryPlace()
    unknown = {"os": "unknown", "architecture": "unknown"}
    amd64 = {"os": "linux", "architecture": "amd64"}
    entries = [
        {**image(place, ONE).to_json(), "platform": amd64},
        image(place, ONE, TWO).to_json(),
        image(place, ONE, inline=False).to_json(),
        {**image(place, ONE, TWO, THREE).to_json(), "platform": unknown},
        Descriptor(OCI_LAYER, ONE, 1).to_json(),
    ]
    found = read(place, document(place, OCI_INDEX, manifests=entries))
    assert seen(found) == {KEYS[1]: (ONE,), KEYS[2]: (ONE, TWO)}


def test_an_image_without_a_cache_is_none() -> None:
    place = MemoryPlace()
    for root in (image(place, ONE, inline=False), document(place, OCI_INDEX, manifests=[])):
        with pytest.raises(EnvironmentFault, match="^it carries no cache$"):
            read(place, root)


def test_an_index_of_more_images_than_platforms_is_refused() -> None:
    place = MemoryPlace()
    entry = image(place, ONE).to_json()
    assert read(place, document(place, OCI_INDEX, manifests=[entry] * 64)).results
    with pytest.raises(EnvironmentFault, match="an index of 65 images is too large for a cache"):
        read(place, document(place, OCI_INDEX, manifests=[entry] * 65))
