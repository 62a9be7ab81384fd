"""Blobs: their bytes depend on the content alone [OUT-10, REP-4]."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from pybuild.image.compression import BlobSink, LayerSource, gzip_level

DATA = b"".join(hashlib.sha256(bytes([n % 251])).digest() * (n % 7) for n in range(40_000))


def blob(path: Path, compression: str, level: int | None, cut: int) -> tuple[bytes, BlobSink, str]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        sink = BlobSink(fd, compression, level)
        for at in range(0, len(DATA), cut):
            sink.write(DATA[at : at + cut])
        inner, outer = sink.finish()
    finally:
        os.close(fd)
    data = path.read_bytes()
    assert inner == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert outer == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (sink.size, sink.uncompressed_size) == (len(data), len(DATA))
    return data, sink, outer


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_cutting_the_input_differently_changes_nothing(tmp_path: Path, compression: str) -> None:
    """ISA-L's own output does change, which is why the sink cuts anew."""
    found = {blob(tmp_path / "b", compression, None, cut)[0] for cut in (999_983, 1 << 20, 65536)}
    assert len(found) == 1
    data = found.pop()
    pieces = iter([data[:3], data[3:]])
    source = LayerSource(lambda _: next(pieces, b""))
    source.drain()
    assert source.compression == compression
    assert source.diff_id == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert source.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (source.size, source.compressed_size) == (len(DATA), len(data))


@pytest.mark.parametrize("level", [None, *range(10)])
def test_gzip_blobs_are_gzip_with_a_constant_header(tmp_path: Path, level: int | None) -> None:
    data, _, _ = blob(tmp_path / "b", "gzip", level, 1 << 20)
    assert data[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert gzip.decompress(data) == DATA


def test_levels_map_onto_isa_l() -> None:
    assert [gzip_level(n) for n in (None, 0, 1, 2, 6, 7, 9)] == [2, 0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("compression", "level"), [("gzip", 10), ("gzip", -1), ("zstd", 23)])
def test_levels_out_of_range_are_named(compression: str, level: int) -> None:
    with pytest.raises(ValueError, match=f"compression level {level} for {compression}"):
        BlobSink(1, compression, level)


def test_empty_stream_is_a_valid_blob(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
    BlobSink(fd, "gzip").finish()
    os.close(fd)
    assert gzip.decompress((tmp_path / "b").read_bytes()) == b""
