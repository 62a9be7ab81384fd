"""Images as lists show them, and the filters that choose some."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pybuild.cache.content.imagelist import list_images, parse_image_filters, unpacked_bytes
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
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
