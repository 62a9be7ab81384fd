"""Images as people read them: indexes, referrers, history rows [CMD-7, CMD-8]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from pybuild.cache.store import Store
from pybuild.exporter.docker.rows import history_rows
from pybuild.exporter.imagetools.place import ImagePlace
from pybuild.exporter.imagetools.shown import plain, shown_image, shown_referrers
from pybuild.image.manifest import build_manifest
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.platform import LINUX_AMD64
from pybuild.registry.client.referrers import Referrer
from tests.clocks import FakeClock


class Place:
    """A place by its names alone."""

    def __init__(self, name: str, repository: str = "") -> None:
        self.name = name
        self.repository = repository


def place(name: str, repository: str = "") -> ImagePlace:
    return cast(ImagePlace, Place(name, repository))


def described(data: bytes, **more: Any) -> Descriptor:
    return Descriptor(OCI_MANIFEST, Digest.of(data), len(data), **more)


def test_values_are_shown_plainly() -> None:
    assert [plain(value) for value in ("a", 7, [1], {"a": None})] == [
        "a", "7", "[\n  1\n]", '{\n  "a": null\n}',
    ]  # fmt: skip


def test_an_index_is_shown_with_its_manifests() -> None:
    plain_one = described(b"one")
    noted = described(b"two", platform=LINUX_AMD64, annotations={"z": "last", "b": "first"})
    data = json.dumps({"manifests": [plain_one.to_json(), noted.to_json()]}).encode()
    root = described(data)
    expected = f"""Name:      host/app:1
MediaType: {OCI_MANIFEST}
Digest:    {root.digest}

Manifests:
  Name:      REPOSITORY@{plain_one.digest}
  MediaType: {OCI_MANIFEST}

  Name:      REPOSITORY@{noted.digest}
  MediaType: {OCI_MANIFEST}
  Platform:  linux/amd64
  Annotations:
    b: first
    z: last
"""
    shown = shown_image(place("host/app:1", "host/app"), root, data)
    assert shown == expected.replace("REPOSITORY", "host/app")
    shown = shown_image(place("host/app:1"), root, data)
    assert shown == expected.replace("REPOSITORY", "host/app:1")


def test_a_single_image_is_shown_by_three_lines() -> None:
    root = described(b"{}")
    assert shown_image(place("app"), root, b"{}") == (
        f"Name:      app\nMediaType: {OCI_MANIFEST}\nDigest:    {root.digest}\n"
    )


def test_referrers_are_shown_by_their_subjects() -> None:
    subject, other = Digest.of(b"subject"), Digest.of(b"other")
    one = Referrer(described(b"one", annotations={"z": "2", "a": "1\x1b"}), "type/a")
    two = Referrer(described(b"two"), "type/b")
    listed = {subject: [one, two], other: [two]}
    assert (
        shown_referrers((place("app"), listed), "")
        == f"""Name:      app

Referrers of {subject}:
  Digest:       {one.descriptor.digest}
  ArtifactType: type/a
  a: 1
  z: 2

  Digest:       {two.descriptor.digest}
  ArtifactType: type/b

Referrers of {other}:
  Digest:       {two.descriptor.digest}
  ArtifactType: type/b
"""
    )
    text = shown_referrers((place("app"), listed), "json")
    assert text.endswith("}\n")
    assert json.loads(text) == {
        str(subject): [one.to_json(), two.to_json()], str(other): [two.to_json()]
    }  # fmt: skip
    assert shown_referrers((place("app"), {}), "") == ("Name:      app\n\nNothing refers to it.\n")
    with pytest.raises(UsageError, match='^format "yaml": referrers are shown as text, or as json'):
        shown_referrers((place("app"), {}), "yaml")


def test_a_history_is_shown_the_newest_first(tmp_path: Path) -> None:
    with Store.open(str(tmp_path), FakeClock()) as store:
        tar, gone = b"x" * 2000, b"gone"
        layers = [
            Descriptor(OCI_LAYER, store.blobs.put(tar), len(tar)),
            Descriptor(OCI_LAYER, Digest.of(gone), 3_000),
        ]
        history = [
            {"created": "2020-01-01T00:00:00Z", "created_by": "  ADD " + "x" * 60, "comment": "c"},
            {"created_by": "ENV  A=b", "empty_layer": True},
            {"created_by": "COPY"},
            {"created": "never"},
        ]
        config = json.dumps({"os": "linux", "architecture": "amd64", "history": history}).encode()
        known = Descriptor(OCI_CONFIG, store.blobs.put(config), len(config))
        manifest = build_manifest(known, layers)
        image = Descriptor(OCI_MANIFEST, store.blobs.put(manifest), len(manifest))
        rows, exact = history_rows(store, image, LINUX_AMD64, whole=False, has_whole_ids=False)
        assert [row["ID"] for row in rows] == [known.digest.short, *["<missing>"] * 3]
        assert [row["CreatedBy"] for row in rows] == [
            "", "COPY", "ENV A=b", "ADD " + "x" * 40 + "…"
        ]  # fmt: skip
        assert [row["Size"] for row in rows] == ["0B", "N/A", "0B", "2kB"]
        assert [row["CompressedSize"] for row in rows] == ["0B", "3kB", "0B", "2kB"]
        assert [row["Comment"] for row in rows] == ["", "", "", "c"]
        assert [row["CreatedAt"] for row in rows] == ["never", "", "", "2020-01-01T00:00:00Z"]
        assert rows[0]["CreatedSince"] == "N/A" and rows[3]["CreatedSince"].endswith("years ago")
        assert exact[0] == {
            "id": str(known.digest), "created": "never", "created_by": "", "comment": "", "size": 0,
        }  # fmt: skip
        assert exact[3] == {
            "id": "<missing>", "created": "2020-01-01T00:00:00Z",
            "created_by": "  ADD " + "x" * 60, "comment": "c", "size": 2000,
        }  # fmt: skip
        rows, _ = history_rows(store, image, LINUX_AMD64, whole=True, has_whole_ids=True)
        assert rows[0]["ID"] == str(known.digest)
        assert rows[3]["CreatedBy"] == "  ADD " + "x" * 60
