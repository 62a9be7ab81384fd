"""The record of a layer: what older stores wrote is read, and written again as it was."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.layerfacts import LayerFacts, WrittenLayer

DIFF = Digest.of(b"tar")
OTHER = Digest.of(b"other tar")
BLOB = Descriptor(OCI_LAYER_GZIP, Digest.of(b"blob"), 4)
PULLED: dict[str, Any] = {
    "diff_id": str(DIFF),
    "descriptor": BLOB.to_json(),
    "reference": "reg.example/base:1",
    "parents": ["sha256-" + "a" * 64],
}

# As they were written by the versions before there was one place for it.
RECORDS: dict[str, dict[str, Any]] = {
    "of a base image": PULLED,
    "of an image of the store": {**PULLED, "reference": "", "parents": []},
    "of a layout": {**PULLED, "reference": "", "layout": "oci"},
    "of a cache": {**PULLED, "cache": "reg.example/c:1", "created": 5.5},
    "of a base image in a cache": {**PULLED, "origin": True, "cache": "c", "checked": True},
    "made here": {"diff_id": str(DIFF), "blobs": {"gzip-None": BLOB.to_json()}},
    "made here as eStargz": {"blobs": {"estargz-9": {**BLOB.to_json(), "diff_id": str(OTHER)}}},
    "of times clamped": {
        "rewritten": {"gzip-None-0": {**BLOB.to_json(), "diff_id": str(OTHER)}},
    },
    "recompressed": {**PULLED, "blobs": {"zstd-3": BLOB.to_json()}},
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_written_as_it_was_read(name: str) -> None:
    assert LayerFacts.from_json(RECORDS[name]).to_json() == RECORDS[name]


def test_a_record_is_read_by_names() -> None:
    facts = LayerFacts.from_json(RECORDS["of a base image in a cache"])
    assert (facts.diff_id, facts.descriptor, facts.reference) == (DIFF, BLOB, "reg.example/base:1")
    assert (facts.cache, facts.is_origins, facts.is_checked, facts.created) == (
        "c",
        True,
        True,
        None,
    )
    made = LayerFacts.from_json(RECORDS["made here as eStargz"])
    assert made.blobs == {"estargz-9": WrittenLayer(BLOB, OTHER)}
    assert made.descriptor is None


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {"diff_id": "md5:0", "descriptor": {}, "parents": "x", "blobs": [], "created": "now"},
        {"diff_id": 5, "descriptor": {"mediaType": "x", "digest": "y", "size": 1}, "reference": 7},
        {"blobs": {"gzip": {"digest": str(DIFF)}}, "rewritten": {"gzip": None}},
    ],
)
def test_what_does_not_fit_counts_as_not_there(record: object) -> None:
    facts = LayerFacts.from_json(record)
    assert (facts.diff_id, facts.descriptor, facts.reference) == (None, None, "")
    assert (facts.parents, facts.blobs, facts.rewritten) == ((), {}, {})
