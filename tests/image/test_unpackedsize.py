"""The unpacked size of a layer, by what its format says, or by unpacking it."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from pybuild.image.unpackedsize import unpacked_size
from pybuild.model.descriptor import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest

TOC = "containerd.io/snapshot/stargz/toc.digest"


class Sizes:
    """Writes blobs, and asks for their size."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "blob"

    def __call__(self, data: bytes, media_type: str = OCI_LAYER_GZIP, **notes: str) -> int | None:
        self._path.write_bytes(data)
        layer = Descriptor(media_type, Digest.of(data), len(data), annotations=notes)
        return unpacked_size(str(self._path), layer)


@pytest.fixture
def size(tmp_path: Path) -> Sizes:
    return Sizes(tmp_path)


def test_members_are_counted_together(size: Sizes) -> None:
    members = gzip.compress(bytes(70_000)) + gzip.compress(b"end")
    assert size(members, **{TOC: "x"}) == 70_003
    assert size(members[:-1], **{TOC: "x"}) is None
    assert size(gzip.compress(bytes(range(256)) * 40) + gzip.compress(b"")) == 10_240


def test_a_large_member_is_believed_where_its_size_can_be(size: Sizes) -> None:
    noise = random.Random(1).randbytes(1_200_000)
    whole = gzip.compress(noise + bytes(500_000), 1)
    assert size(whole) == 1_700_000
    wrong = whole[:-4] + (1_650_000).to_bytes(4, "little")
    assert size(wrong) == 1_650_000  # nothing is unpacked
    assert size(wrong, **{TOC: "x"}) is None
    assert size(whole + gzip.compress(b"end")) == 1_700_003


def test_what_is_not_compressed_is_as_large_as_it_is(size: Sizes) -> None:
    assert size(bytes(512), OCI_LAYER) == 512
    assert size(b"no archive") is None


def test_what_is_broken_or_not_there_has_no_size(size: Sizes, tmp_path: Path) -> None:
    assert size(b"\x1f\x8b") is None
    layer = Descriptor(OCI_LAYER_GZIP, Digest.of(b"x"), 1)
    assert unpacked_size(str(tmp_path / "none"), layer) is None


def test_frames_are_counted_together(size: Sizes) -> None:
    zstandard = pytest.importorskip("zstandard")
    frames = [zstandard.compress(bytes(size)) for size in (100_000, 5)]
    assert size(b"".join(frames)) == 100_005
    assert size(frames[0][:-1]) is None
    assert size(frames[0] + b"no frame") is None
