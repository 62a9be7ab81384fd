"""Blobs: their bytes depend on the content alone [OUT-10, REP-4]."""

from __future__ import annotations

import _thread
import gzip
import hashlib
import io
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.image.layer.blobsink import BlobSink
from pybuild.image.layer.compression import LayerSource
from pybuild.image.layer.gzipblocks import GzipBlocks, gzip_level
from pybuild.image.layer.pieces import PIECE, Chunker
from pybuild.image.layer.pipeline import Piece, Pipeline
from pybuild.image.layer.writeback import STRIDE, Writeback

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
    found = {blob(tmp_path / "b", compression, None, cut)[0] for cut in (999_983, PIECE, 65536)}
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


@pytest.mark.parametrize("allowed", [1, 2])
def test_where_no_more_threads_may_start_those_there_are_do_the_work(
    monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """The first ends pieces; without one that packs them nothing can be done, and nothing is left."""
    starting = _thread.start_new_thread
    started = 0

    def start(function: Callable[..., None], args: tuple[object, ...]) -> int:
        nonlocal started
        if started == allowed:
            raise RuntimeError("can't start new thread")
        started += 1
        return starting(function, args)

    monkeypatch.setattr(_thread, "start_new_thread", start)
    done: list[bytes] = []

    def pack(piece: Piece) -> bytes:
        return bytes(piece.buffer[: piece.size]).upper()

    def run() -> None:
        pipeline = Pipeline(pack, lambda piece: done.append(piece.result()), 4)
        for text in (b"a", b"b", b"c"):
            pipeline.put(Piece(bytearray(text), 1, b""))
        pipeline.finish()

    if allowed == 1:
        with pytest.raises(RuntimeError, match="start new thread"):
            run()
    else:
        run()
    assert done == ([] if allowed == 1 else [b"A", b"B", b"C"])


def test_empty_stream_is_a_valid_blob(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
    BlobSink(fd, "gzip").finish()
    os.close(fd)
    assert gzip.decompress((tmp_path / "b").read_bytes()) == b""


def compressed(path: Path, compression: str, data: bytes, level: int | None = None) -> bytes:
    """Compress with several numbers of threads; return what all of them make."""
    found: set[bytes] = set()
    for threads in (0, 1, 2, 7):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with BlobSink(fd, compression, level, threads=threads or None) as sink:
            sink.write(data)
            sink.finish()
        os.close(fd)
        found.add(path.read_bytes())
    (whole,) = found
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("level", [None, 9, 10])
def test_how_many_threads_zstd_has_changes_nothing(tmp_path: Path, level: int | None) -> None:
    data = DATA * 8  # several jobs of 8 MB
    whole = compressed(tmp_path / "b", "zstd", data, level)
    pieces = iter([whole])
    source = LayerSource(lambda _: next(pieces, b""))
    source.drain()
    assert source.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_how_many_threads_compress_changes_nothing(tmp_path: Path) -> None:
    """OUT-10, REP-4: and each block of gzip is compressed knowing what precedes it, as in one go."""
    rng = random.Random(1)
    words = [rng.randbytes(rng.randint(1, 6)).hex().encode() for _ in range(2000)]
    data = b" ".join(rng.choices(words, k=600_000))
    whole = compressed(tmp_path / "b", "gzip", data)
    assert gzip.decompress(whole) == data
    assert zlib.decompressobj(31).decompress(whole) == data
    blocks = GzipBlocks(None)
    apart = [
        blocks.block(memoryview(data)[at : at + PIECE], b"") for at in range(0, len(data), PIECE)
    ]
    assert len(whole) < sum(map(len, apart)) - 1000 * len(apart)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_where_no_thread_can_be_had_one_does_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    usual = blob(tmp_path / "b", compression, None, PIECE)[0]

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert blob(tmp_path / "b", compression, None, PIECE)[0] == usual


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_a_full_disk_is_told_and_ends_all_work(compression: str) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with (
            pytest.raises(OSError, match="No space left"),
            BlobSink(fd, compression) as sink,
        ):
            for _ in range(50):
                sink.write(bytes(PIECE + 1))
            sink.finish()
    finally:
        os.close(fd)


def test_a_stream_that_is_given_up_is_not_written_to_later(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(KeyError), BlobSink(fd) as sink:
            sink.write(bytes(9 * PIECE))
            raise KeyError
        size = os.fstat(fd).st_size
        with pytest.raises(KeyError), BlobSink(fd):
            raise KeyError
        assert os.fstat(fd).st_size == size
    finally:
        os.close(fd)


@pytest.mark.parametrize("before", [0, 5, PIECE - 1])
def test_files_are_read_into_the_stream(tmp_path: Path, before: int) -> None:
    (tmp_path / "file").write_bytes(DATA)
    out = io.BytesIO()
    cut = Chunker.into(out.write)
    cut.write(DATA[:before])
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        assert cut.read_from(fd, 3)
        assert cut.read_from(fd, len(DATA) - 3)
        assert not cut.read_from(fd, 1)  # it has no more
    finally:
        os.close(fd)
    cut.end()
    assert out.getvalue() == DATA[:before] + DATA


def test_a_large_blob_is_on_its_way_to_the_disk_while_it_is_made(tmp_path: Path) -> None:
    """Early writing changes no byte of the blob, and is left out for files that cannot be flushed."""
    fd = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
    with BlobSink(fd, "uncompressed") as sink:
        sink.write(bytes(STRIDE + PIECE))
        assert sink.finish()[0] == "sha256:" + hashlib.sha256(bytes(STRIDE + PIECE)).hexdigest()
    os.close(fd)
    assert (tmp_path / "b").stat().st_size == STRIDE + PIECE
    reader, writer = os.pipe()
    Writeback(writer).reached(STRIDE)
    os.close(reader)
    os.close(writer)
