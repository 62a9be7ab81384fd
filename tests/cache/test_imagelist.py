"""Images as lists show them, and the filters that choose some."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pybuild.cache.content.imagelist import (
    age,
    image_facts,
    image_named,
    list_images,
    moment,
    names_of,
    parent_id,
    parse_image_filters,
    unpacked_bytes,
)
from pybuild.cache.store import Store
from pybuild.model.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest, canonical_json
from pybuild.model.errors import UsageError, UserError
from tests.clocks import FakeClock


def put(store: Store, media_type: str, data: bytes, **notes: str) -> Descriptor:
    return Descriptor(media_type, store.blobs.put(data), len(data), annotations=notes)


def image(store: Store, day: int, labels: Mapping[str, str]) -> Descriptor:
    config = {"created": f"2026-01-{day:02}T00:00:00Z", "config": {"Labels": labels}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put(store, OCI_CONFIG, canonical_json(config)).to_json(),
        "layers": [put(store, OCI_LAYER_GZIP, gzip.compress(bytes(1000 * day))).to_json()],
    }
    return put(store, OCI_MANIFEST, canonical_json(manifest))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", FakeClock()) as store:
        for day, name in enumerate(("one:1", "me/two:2", "r.example/a/three:3"), 1):
            store.images.tag(name, image(store, day, {"day": str(day)}))
        store.images.add_dangling(image(store, 9, {}))
        yield store


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("", "one me/two r.example/a/three -"),
        ("dangling=true", "-"),
        ("dangling=0", "one me/two r.example/a/three"),
        ("label=day", "one me/two r.example/a/three"),
        ("label=day=2", "me/two"),
        ("label!=day=2", "one r.example/a/three -"),
        ("label=day=2 label=other", ""),
        ("before=me/two:2", "one"),
        ("since=me/two:2", "r.example/a/three -"),
        ("until=2026-01-02T00:00:00Z", "one"),
        ("reference=one", "one"),
        ("reference=o?e:1", "one"),
        ("reference=*", "one"),
        ("reference=*/*", "me/two"),
        ("reference=one reference=r.example/*/th[a-z]*", "one r.example/a/three"),
        ("reference=one:2", ""),
        ("reference=docker.io/library/one", "one"),
        ("reference=docker.io/me/*", "me/two"),
    ],
)
def test_filters_choose(store: Store, filters: str, names: str) -> None:
    chosen = parse_image_filters(filters.split(), store)
    listed = [one for one in list_images(store) if chosen(one)]
    shown = [one.reference.familiar.rpartition(":")[0] if one.reference else "-" for one in listed]
    assert shown == names.split()


@pytest.mark.parametrize(
    "text", ["label", "dangling=maybe", "colour=red", "until=soon", "reference=[z-a]"]
)
def test_filters_that_are_none(store: Store, text: str) -> None:
    with pytest.raises(UsageError):
        parse_image_filters([text], store)


def test_an_image_to_compare_with_that_is_not_there(store: Store) -> None:
    with pytest.raises(UserError, match="no such image: gone"):
        parse_image_filters(["before=gone"], store)


def test_layers_have_the_size_of_what_they_unpack_to(store: Store) -> None:
    sizes = [unpacked_bytes(store, one.layers) for one in list_images(store)]
    assert sizes == [1_000, 2_000, 3_000, 9_000]
    missing = Descriptor(OCI_LAYER, Digest.of(b"x"), 1)
    assert unpacked_bytes(store, [missing]) is None


def index(store: Store, *children: Mapping[str, object]) -> Descriptor:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
    return put(store, OCI_INDEX, canonical_json(document))


def test_an_index_of_one_image_and_its_attestations_is_shown_as_that_image(store: Store) -> None:
    made = image(store, 4, {"day": "4"})
    attested = put(store, OCI_MANIFEST, b"{}").to_json()
    attested["platform"] = {"os": "unknown", "architecture": "unknown"}
    child = {**made.to_json(), "platform": {"os": "linux", "architecture": "amd64"}}
    other = {**image(store, 5, {}).to_json(), "platform": {"os": "linux", "architecture": "arm64"}}
    whole = index(store, attested, child)
    facts = image_facts(store, "x", whole)
    assert (facts.labels, facts.descriptor) == ({"day": "4"}, whole)
    assert facts.image_id == image_facts(store, "x", made).image_id
    for several in (index(store, child), index(store, child, other, attested)):
        facts = image_facts(store, "x", several)
        assert (facts.labels, facts.image_id, facts.size) == ({}, several.digest, several.size)
    gone = Descriptor(OCI_INDEX, Digest.of(b"gone"), 7)
    assert image_facts(store, "x", gone).image_id == gone.digest


def test_an_image_is_found_by_its_name_or_its_neighbour_is_told(store: Store) -> None:
    (descriptor,) = (one for names, one in store.images.list() if "me/two" in "".join(names))
    assert image_named(store, "me/two:2") == image_named(store, "me/two:2", hold=True) == descriptor
    for name, hint in (
        ("me/tow:2", "did you mean me/two:2?"),
        ("localhost:5000/zzzz", "pybuild images lists what is there"),
        ("one:l", "did you mean one:1?"),
    ):
        with pytest.raises(UserError) as caught:
            image_named(store, name)
        assert (caught.value.message, caught.value.hints) == (f"no such image: {name}", (hint,))


def test_all_names_of_an_image_are_known_and_its_base_where_it_is_here(store: Store) -> None:
    base = image(store, 6, {})
    store.images.tag("base:1", base)
    store.images.tag("r.example/base:2", base)
    assert sorted(names_of(store, base)) == ["docker.io/library/base:1", "r.example/base:2"]
    assert names_of(store, image(store, 9, {})) == []
    facts = image_facts(store, "base:1", base)
    for said, id in (
        (str(base.digest), str(facts.image_id)),
        ("base:1", ""),  # who wrote it may lie
        (str(Digest.of(b"gone")), ""),
        ("", ""),
    ):
        assert parent_id(store, replace(facts, base=said)) == id, said


def test_times_that_nobody_can_read_are_none() -> None:
    assert moment("") is moment("soon") is None
    made = moment("2026-01-02T03:04:05")
    assert made is not None and made == moment("2026-01-02T04:04:05+01:00")
    assert age(None) == "N/A"
    assert age(datetime.now(UTC) - timedelta(days=3, hours=1)) == "3 days ago"
