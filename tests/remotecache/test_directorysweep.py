"""Directories that hold caches lose what nothing names, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pybuild.model.descriptor import OCI_INDEX, OCI_MANIFEST
from pybuild.model.digest import Digest
from pybuild.remotecache.places.directorysweep import sweep

NOW = 1_800_000_000.0
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Layout:
    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.name()

    def blob(self, data: bytes, media_type: str = LAYER, age_s: float = 7200) -> dict[str, Any]:
        digest = Digest.of(data)
        place = self.path / "blobs/sha256" / digest.hex
        place.write_bytes(data)
        os.utime(place, (NOW - age_s, NOW - age_s))
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def document(self, media_type: str, **fields: Any) -> dict[str, Any]:
        body = {"schemaVersion": 2, "mediaType": media_type, **fields}
        return self.blob(json.dumps(body).encode(), media_type)

    def name(self, *entries: dict[str, Any]) -> None:
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        (self.path / "index.json").write_text(json.dumps(index))

    def blobs(self) -> set[str]:
        return {f"sha256:{path.name}" for path in (self.path / "blobs/sha256").iterdir()}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def test_what_the_index_leads_to_stays(layout: Layout) -> None:
    config, layer, loose = layout.blob(b"config"), layout.blob(b"layer"), layout.blob(b"loose")
    image = layout.document(OCI_MANIFEST, config=config, layers=[layer])
    index = layout.document(OCI_INDEX, manifests=[image])
    other = layout.blob(b"what we know nothing of", "text/plain")
    layout.name(index, other)
    assert sweep(str(layout.path), NOW - 3600) == 1
    kept = {one["digest"] for one in (config, layer, image, index, other)}
    assert layout.blobs() == kept
    assert loose["digest"] not in kept


def test_what_is_young_stays(layout: Layout) -> None:
    """Somebody may be about to name it."""
    layout.blob(b"old")
    young = layout.blob(b"young", age_s=60)
    part = layout.path / "blobs/sha256/x.1.part"
    part.write_bytes(b"being written")
    os.utime(part, (NOW, NOW))
    assert sweep(str(layout.path), NOW - 3600) == 1
    assert young["digest"] in layout.blobs()
    assert len(layout.blobs()) == 2


@pytest.mark.parametrize("how", ["cut", "missing", "no json", "wrong kind"])
def test_where_a_document_cannot_be_read_all_stays(layout: Layout, how: str) -> None:
    layout.blob(b"loose")
    image = layout.document(OCI_MANIFEST, config=layout.blob(b"c"), layers=[])
    if how == "no json":
        image = layout.blob(b"{", OCI_MANIFEST)
    if how == "wrong kind":
        image = layout.document(OCI_MANIFEST, config=[1], layers="x")
    layout.name(image)
    place = layout.path / "blobs/sha256" / str(image["digest"]).partition(":")[2]
    if how == "cut":
        place.write_bytes(place.read_bytes()[:-1])
    if how == "missing":
        place.unlink()
    before = layout.blobs()
    assert sweep(str(layout.path), NOW) == 0
    assert layout.blobs() == before
