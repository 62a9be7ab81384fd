"""Base images: whole ones of the store are taken, their layers come from where they are noted to be."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.cache.store import Store
from pybuild.engine.baseimages import ImageSourceResolver, note_layers
from pybuild.engine.progress import InternalStep
from pybuild.executor.fetch import LayerGone
from pybuild.frontend.lowering.interface import ImageRequest, Pull
from pybuild.model.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.events import Event, VertexAdded
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from tests.clocks import FakeClock

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
BASE = Reference.parse("base:1")
DATA = gzip.compress(b"\0" * 1024, mtime=0)
DIFF_ID = Digest.of(b"\0" * 1024)
LAYER = Descriptor(OCI_LAYER_GZIP, Digest.of(DATA), len(DATA))
DELTA = "sha256-" + DIFF_ID.hex


class Asked(Exception):
    """The registry would be asked."""


def nobody() -> Client:
    raise Asked


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "s", FakeClock()) as opened:
        yield opened


@pytest.fixture
def images(store: Store) -> ImageSourceResolver:
    return ImageSourceResolver(store, nobody)


def document(store: Store, media_type: str, **fields: Any) -> Descriptor:
    body = {"schemaVersion": 2, "mediaType": media_type, **fields}
    data = json.dumps(body).encode()
    return Descriptor(media_type, store.blobs.put(data), len(data))


def image(store: Store, arch: str = "amd64", layers: int = 1, diff_ids: int = 1) -> Descriptor:
    config = {
        "os": "linux",
        "architecture": arch,
        "rootfs": {"type": "layers", "diff_ids": [DIFF_ID] * diff_ids},
    }
    data = json.dumps(config).encode()
    stored = Descriptor(OCI_CONFIG, store.blobs.put(data), len(data))
    return document(store, OCI_MANIFEST, config=stored.to_json(), layers=[LAYER.to_json()] * layers)


def resolved(
    images: ImageSourceResolver, platform: Platform = AMD64, *, pull: Pull = False
) -> Digest:
    return asyncio.run(images.resolve(ImageRequest(BASE, platform), pull=pull)).digest


def test_an_image_of_the_store_is_taken_and_its_layers_are_noted(
    store: Store, images: ImageSourceResolver
) -> None:
    manifest = image(store)
    store.images.tag(str(BASE), manifest)
    found = asyncio.run(images.resolve(ImageRequest(BASE, AMD64), pull=False))
    assert (found.digest, found.layer_count, found.platform) == (manifest.digest, 1, AMD64)
    assert images.used == [(ImageRequest(BASE, AMD64), manifest.digest, True)]
    facts = layer_facts(store.records, DELTA)
    assert facts == LayerFacts(diff_id=DIFF_ID, descriptor=LAYER, reference=str(BASE))


def test_who_pulls_asks_the_registry_first(store: Store, images: ImageSourceResolver) -> None:
    store.images.tag(str(BASE), image(store))
    with pytest.raises(Asked):
        resolved(images, pull=True)


def test_newer_takes_what_is_here_where_no_registry_answers(store: Store) -> None:
    def offline() -> Client:
        raise EnvironmentFault("no network")

    images = ImageSourceResolver(store, offline)
    with pytest.raises(EnvironmentFault, match="no network"):
        resolved(images, pull="newer")
    store.images.tag(str(BASE), manifest := image(store))
    assert resolved(images, pull="newer") == manifest.digest
    with pytest.raises(EnvironmentFault, match="no network"):
        resolved(images, pull=True)


def test_never_takes_what_is_here_whole(store: Store, images: ImageSourceResolver) -> None:
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            resolved(images, pull="never")
        assert caught.value.message == (
            f"image {BASE.familiar} is not in the store, and --pull=never asks no registry"
        )
        store.images.tag(str(BASE), image(store))  # without its layer
    layer = bytes(7)
    stored = Descriptor(LAYER.media_type, store.blobs.put(layer), len(layer))
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIFF_ID]}}
    data = json.dumps(config).encode()
    known = Descriptor(OCI_CONFIG, store.blobs.put(data), len(data))
    whole = document(store, OCI_MANIFEST, config=known.to_json(), layers=[stored.to_json()])
    store.images.tag(str(BASE), whole)
    assert resolved(images, pull="never") == whole.digest


def test_what_was_resolved_before_counts_after_what_has_the_name(
    store: Store, images: ImageSourceResolver
) -> None:
    earlier, named = image(store, layers=1), image(store, layers=2, diff_ids=2)
    with pytest.raises(Asked):
        resolved(images)
    images.resolutions.put(BASE, AMD64, earlier)
    assert resolved(images) == earlier.digest
    assert images.used == [(ImageRequest(BASE, AMD64), earlier.digest, False)]
    store.images.tag(str(BASE), named)
    assert resolved(images) == named.digest


def test_a_guest_does_not_learn_what_others_have_resolved(store: Store) -> None:
    guest = ImageSourceResolver(store, nobody, is_guest=True)
    guest.resolutions.put(BASE, AMD64, image(store))
    with pytest.raises(Asked):
        resolved(guest)


def test_of_an_index_the_platforms_manifest_is_taken(
    store: Store, images: ImageSourceResolver
) -> None:
    amd64 = image(store)
    entry = {**amd64.to_json(), "platform": {"os": "linux", "architecture": "amd64"}}
    store.images.tag(str(BASE), document(store, OCI_INDEX, manifests=[entry]))
    assert resolved(images) == amd64.digest
    with pytest.raises(Asked):
        resolved(images, ARM64)


@pytest.mark.parametrize("how", ["manifest", "config", "damaged"])
def test_an_image_that_is_not_whole_is_asked_for(
    store: Store, images: ImageSourceResolver, how: str
) -> None:
    manifest = image(store)
    store.images.tag(str(BASE), manifest)
    config = json.loads(store.blobs.read(manifest.digest))["config"]["digest"]
    if how == "damaged":
        path = Path(store.blobs.path(config))
        path.chmod(0o600)
        path.write_bytes(b"x" * path.stat().st_size)
    else:
        store.blobs.delete(manifest.digest if how == "manifest" else config)
    with pytest.raises(Asked):
        resolved(images)


def test_where_nobody_answers_what_is_wrong_with_ours_is_the_news(store: Store) -> None:
    def away() -> Client:
        raise EnvironmentFault("no answer", hints=["try again"])

    images = ImageSourceResolver(store, away)
    with pytest.raises(EnvironmentFault, match="^no answer$"):
        resolved(images)
    manifest = image(store)
    store.images.tag(str(BASE), manifest)
    with pytest.raises(EnvironmentFault, match="^no answer$"):
        resolved(images, pull=True)
    config = json.loads(store.blobs.read(manifest.digest))["config"]["digest"]
    store.blobs.delete(config)
    with pytest.raises(EnvironmentFault) as caught:
        resolved(images)
    assert caught.value.message == (
        f"the store has base:1, but blob {config}: not in the store: no answer"
    )
    assert caught.value.hints == ("try again", "build, load or pull base:1 again")


def test_a_config_must_have_a_diff_id_for_each_layer(
    store: Store, images: ImageSourceResolver
) -> None:
    manifest = image(store, layers=2, diff_ids=1)
    with pytest.raises(UserError, match="manifest has 2 layers, config has 1 diff ids"):
        images.describe(manifest, BASE)
    index = document(store, OCI_INDEX, manifests=[])
    with pytest.raises(EnvironmentFault, match="is an index where a manifest belongs"):
        images.describe(index, BASE)


def test_a_layer_is_noted_with_what_it_lies_on_and_where_it_is_now(store: Store) -> None:
    other = Digest.of(b"other")
    note_layers(store, BASE, [LAYER, LAYER], [DIFF_ID, other])
    above = "sha256-" + other.hex
    found = layer_facts(store.records, above)
    assert found is not None
    assert (found.parents, found.reference, found.layout) == ((DELTA,), str(BASE), "")
    checked = LayerFacts(diff_id=other, reference=str(BASE), is_checked=True)
    keep_layer(store.records, above, checked)
    note_layers(store, BASE, [LAYER], [other])
    assert layer_facts(store.records, above) == checked  # the same place: nothing is new
    note_layers(store, BASE, [LAYER], [other], "/layout")
    found = layer_facts(store.records, above)
    assert found is not None
    assert (found.parents, found.reference, found.layout) == ((), "", "/layout")


# --- layers ---------------------------------------------------------------------------------------

LENT = LayerFacts(diff_id=DIFF_ID, descriptor=LAYER, layout="memory")
CACHED = replace(LENT, cache="cache:1")


class Lender:
    """A place in memory that lends one blob, or fails."""

    def __init__(self, store: Store, data: bytes | None = DATA) -> None:
        self.store, self.data, self.times = store, data, 0
        self.error: PybuildError = EnvironmentFault("it is away")

    async def __call__(self, blob: Descriptor, step: InternalStep) -> None:
        self.times += 1
        if self.data is None:
            raise self.error
        self.store.blobs.put(self.data)


def fetch(
    images: ImageSourceResolver, delta: str = DELTA, *, is_compared: bool = False
) -> list[Event]:
    events: list[Event] = []
    asyncio.run(images.fetch(delta, events.append, is_compared=is_compared))
    return events


def test_a_layer_that_nobody_knows_cannot_be_had(store: Store, images: ImageSourceResolver) -> None:
    for facts in (None, LayerFacts(diff_id=DIFF_ID)):
        if facts is not None:
            keep_layer(store.records, DELTA, facts)
        with pytest.raises(EnvironmentFault) as caught:
            fetch(images)
        assert caught.value.message == (
            f"layer {DELTA} is neither in the store nor known to any registry"
        )
        assert caught.value.hints == ("build with --pull to resolve the base image again",)
    keep_layer(store.records, DELTA, LayerFacts(diff_id=DIFF_ID, descriptor=LAYER))
    with pytest.raises(EnvironmentFault, match=f"blob {LAYER.digest} is missing from the store"):
        fetch(images)


def test_a_layer_is_lent_once_and_shown(store: Store, images: ImageSourceResolver) -> None:
    keep_layer(store.records, DELTA, LENT)
    images.lenders["memory"] = lender = Lender(store)
    names = [event.name for event in fetch(images) if isinstance(event, VertexAdded)]
    assert names == [f"[internal] copy {LAYER.digest.short} of memory"]
    assert store.blobs.read(LAYER.digest) == DATA
    assert fetch(images) == []
    assert lender.times == 1
    assert layer_facts(store.records, DELTA) == LENT


def test_a_layer_of_a_cache_is_compared_with_its_diff_id_once(
    store: Store, images: ImageSourceResolver
) -> None:
    keep_layer(store.records, DELTA, CACHED)
    images.lenders["memory"] = Lender(store)
    fetch(images, is_compared=True)
    assert layer_facts(store.records, DELTA) == CACHED
    fetch(images)
    assert layer_facts(store.records, DELTA) == replace(CACHED, is_checked=True)


def test_a_cached_layer_that_is_another_one_is_gone(
    store: Store, images: ImageSourceResolver
) -> None:
    wrong = Digest.of(b"wrong")
    keep_layer(store.records, DELTA, replace(CACHED, diff_id=wrong))
    images.lenders["memory"] = Lender(store)
    with pytest.raises(LayerGone, match=f"^cached layer {wrong}: got {DIFF_ID}$") as caught:
        fetch(images)
    assert (caught.value.delta, caught.value.everywhere) == (DELTA, False)


@pytest.mark.parametrize(
    ("error", "everywhere"),
    [
        (EnvironmentFault("x"), True),
        (HttpFault("x", status=500), True),
        (HttpFault("x", status=404), False),
        (UserError("x"), False),
    ],
)
def test_a_place_that_is_away_lacks_all_its_layers(
    store: Store, images: ImageSourceResolver, error: PybuildError, everywhere: bool
) -> None:
    images.lenders["memory"] = lender = Lender(store, None)
    lender.error = error
    keep_layer(store.records, DELTA, CACHED)
    with pytest.raises(LayerGone, match="^x$") as caught:
        fetch(images)
    assert (caught.value.delta, caught.value.everywhere) == (DELTA, everywhere)
    keep_layer(store.records, DELTA, LENT)
    with pytest.raises(type(error)) as others:
        fetch(images)
    assert others.value is error


# --- layout directories ---------------------------------------------------------------------------


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout directory with one image of one layer."""
    where = tmp_path / "layout"
    (where / "blobs/sha256").mkdir(parents=True)
    (where / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def add(data: bytes, media_type: str) -> dict[str, Any]:
        (where / "blobs/sha256" / Digest.of(data).hex).write_bytes(data)
        return Descriptor(media_type, Digest.of(data), len(data)).to_json()

    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIFF_ID]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": add(json.dumps(config).encode(), OCI_CONFIG),
        "layers": [add(DATA, OCI_LAYER_GZIP)],
    }
    index = {"schemaVersion": 2, "manifests": [add(json.dumps(manifest).encode(), OCI_MANIFEST)]}
    (where / "index.json").write_text(json.dumps(index))
    return where


def test_layers_stay_in_a_layout_until_they_are_needed(
    store: Store, images: ImageSourceResolver, layout: Path
) -> None:
    request = ImageRequest(BASE, AMD64, str(layout))
    found = asyncio.run(images.resolve(request, pull=True))
    assert (found.layer_count, found.platform, images.used) == (1, AMD64, [])
    assert not store.blobs.has(LAYER.digest)
    fetch(images)
    assert store.blobs.read(LAYER.digest) == DATA
    assert images.damaged == set()


def test_a_blob_of_a_layout_that_is_damaged_is_remembered(
    store: Store, images: ImageSourceResolver, layout: Path
) -> None:
    asyncio.run(images.resolve(ImageRequest(BASE, AMD64, str(layout)), pull=False))
    (layout / "blobs/sha256" / LAYER.digest.hex).write_bytes(b"x" * LAYER.size)
    with pytest.raises(PybuildError):
        fetch(images)
    assert images.damaged == {(str(layout), LAYER.digest)}
    assert not store.blobs.has(LAYER.digest)
