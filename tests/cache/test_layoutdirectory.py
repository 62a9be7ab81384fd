"""OCI layout directories of strangers [NC-1]."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pybuild.cache.content.layoutdirectory import LayoutDirectory, parse_layout
from pybuild.cache.store import Store
from pybuild.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.platform import LINUX_AMD64, Platform

ZEROS = "sha256:" + "0" * 64


class Layout:
    """A layout directory that a test fills."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.entries: list[dict[str, object]] = []
        self.index()

    def blob(self, media_type: str, value: object) -> Descriptor:
        data = json.dumps(value).encode()
        digest = Digest.of(data)
        (self.path / "blobs/sha256" / digest.hex).write_bytes(data)
        return Descriptor(media_type, digest, len(data))

    def image(self, arch: str) -> Descriptor:
        config = self.blob(
            OCI_CONFIG,
            {"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}},
        )
        return self.blob(
            OCI_MANIFEST,
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": config.to_json(),
                "layers": [],
            },
        )

    def index(self) -> None:
        value = {"schemaVersion": 2, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(value))

    def name(self, descriptor: Descriptor, tag: str) -> None:
        notes = {"org.opencontainers.image.ref.name": tag} if tag else {}
        self.entries.append({**descriptor.to_json(), "annotations": notes})
        self.index()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.mark.parametrize(
    ("text", "path", "tag", "digest"),
    [
        ("a/b", "a/b", "", None),
        ("a/b:v1", "a/b", "v1", None),
        ("/a:b/c", "/a:b/c", "", None),
        (f"a@{ZEROS}", "a", "", ZEROS),
        (f"a:v1@{ZEROS}", "a", "v1", ZEROS),
    ],
)
def test_where_a_layout_is_and_what_of_it(
    text: str, path: str, tag: str, digest: str | None
) -> None:
    assert parse_layout(text) == (path, tag, digest)


def test_a_directory_that_is_there_wins(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert parse_layout(f"{tmp_path}/a:b") == (f"{tmp_path}/a:b", "", None)
    with pytest.raises(UserError, match="invalid digest"):
        parse_layout("a@sha256:12")


def test_images_by_tag_and_by_digest(layout: Layout) -> None:
    one, two = layout.image("amd64"), layout.image("arm64")
    layout.name(one, "")
    opened = LayoutDirectory(str(layout.path))
    assert opened.find("", None).digest == one.digest  # the only one
    layout.name(two, "registry.example:5000/x:v2")
    assert opened.find("v2", None).digest == two.digest
    with pytest.raises(UserError, match='no image with the tag "latest": it has v2'):
        opened.find("", None)
    found = opened.find("", one.digest)
    assert opened.choose(found, LINUX_AMD64)[0].digest == one.digest


def test_an_index_is_walked_to_the_platform(layout: Layout) -> None:
    one, two = layout.image("amd64"), layout.image("arm64")
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [one.to_json(), two.to_json()],
    }
    layout.name(layout.blob(OCI_INDEX, value), "latest")
    opened = LayoutDirectory(str(layout.path))
    found = opened.find("", None)
    assert opened.choose(found, Platform.parse("linux/arm64"))[0].digest == two.digest
    with pytest.raises(EnvironmentFault, match="has no image for linux/s390x"):
        opened.choose(found, Platform.parse("linux/s390x"))


def test_what_is_no_layout(tmp_path: Path, layout: Layout) -> None:
    with pytest.raises(UserError, match="is no OCI layout directory"):
        LayoutDirectory(str(tmp_path))
    (layout.path / "oci-layout").write_text('{"imageLayoutVersion": "2"}')
    with pytest.raises(UserError, match="version '2' is not supported"):
        LayoutDirectory(str(layout.path))


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def missing(path: Path) -> None:
    path.unlink()


def named_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def stranger(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize("harm", [damaged, missing, named_pipe, stranger, huge])
def test_a_blob_that_is_not_what_its_digest_says(layout: Layout, harm: object) -> None:
    image = layout.image("amd64")
    layout.name(image, "latest")
    assert callable(harm)
    harm(layout.path / "blobs/sha256" / image.digest.hex)
    opened = LayoutDirectory(str(layout.path))
    with pytest.raises(EnvironmentFault):
        opened.choose(opened.find("", None), LINUX_AMD64)
    with pytest.raises(PybuildError):
        opened.find("", image.digest)


def test_a_huge_index_is_refused(layout: Layout) -> None:
    huge(layout.path / "index.json")
    with pytest.raises(EnvironmentFault, match=r"index\.json has more than"):
        LayoutDirectory(str(layout.path)).find("", None)


def test_blobs_of_any_size_come_into_the_store_where_they_are_what_they_say(
    layout: Layout, store: Store
) -> None:
    opened = LayoutDirectory(str(layout.path))
    whole = layout.blob(OCI_CONFIG, {"text": "x" * 3_000_000})
    opened.copy(whole, store)
    assert (
        store.blobs.read(whole.digest)
        == (layout.path / "blobs/sha256" / whole.digest.hex).read_bytes()
    )
    assert opened.document(whole, 4_000_000)["text"] == "x" * 3_000_000
    broken = layout.blob(OCI_CONFIG, {"text": "y"})
    damaged(layout.path / "blobs/sha256" / broken.digest.hex)
    gone = layout.blob(OCI_CONFIG, {"text": "z"})
    missing(layout.path / "blobs/sha256" / gone.digest.hex)
    for blob in (broken, gone):
        with pytest.raises(EnvironmentFault, match=blob.digest.hex):
            opened.copy(blob, store)
        assert not store.blobs.has(blob.digest)
    with pytest.raises(UserError, match="only sha256 digests can be looked up"):
        opened.find("", Digest.parse("sha512:" + "0" * 128))


def test_an_index_that_is_not_there_or_broken_is_named(layout: Layout) -> None:
    opened = LayoutDirectory(str(layout.path))
    (layout.path / "index.json").write_text("[]")
    with pytest.raises(EnvironmentFault, match="index.json is broken: ") as caught:
        opened.entries()
    assert "remove the directory" in caught.value.hints[0]
    missing(layout.path / "index.json")
    with pytest.raises(UserError, match="index.json: no such file or directory$"):
        opened.entries()
