"""A layer blob in the making: compressed, and digested on both sides.

A layer's digest depends on every detail here [OUT-10]. ISA-L's and zstd's output depends on how the
input is cut (seen with ISA-L 2.31), so it is cut into pieces of exactly `PIECE` bytes whatever the
writes look like. From the second piece on, reading, compressing, and digesting with writing go on at
the same time; how many threads there are changes no byte.
"""

from __future__ import annotations

import hashlib
import os

from pybuild.image.layer.compression import COMPRESSIONS, GZIP, UNCOMPRESSED, ZSTD
from pybuild.image.layer.gzipblocks import HEAD, WINDOW, GzipBlocks, tail
from pybuild.image.layer.pieces import PIECE, Chunker
from pybuild.image.layer.pipeline import Piece, Pipeline
from pybuild.image.layer.writeback import Writeback
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, Self

    class _Format(Protocol):
        head: bytes
        threads: int
        """The number of blobs that may be compressed at once; 0: none is compressed."""

        def pack(self, piece: Piece) -> bytes: ...
        def note(self, data: memoryview) -> None:
            """See *data*, in order."""

        def tail(self) -> bytes: ...


_ZSTD_LEVEL = 3
_MOST_THREADS = 8
_MOST_ZSTD_THREADS = 4
_MOST_ZSTD_LEVEL = 9  # compressed by several threads


class BlobSink(Chunker):
    """Writes a stream to a file descriptor, compressed, and digests both sides on the way.

    A context: once it is left, nothing is written any more.

    Args:
        threads: how many may compress at once; default: one a processor.
        tell: called now and then with the number of bytes that came in.

    Attributes:
        uncompressed_size: of what came in so far.
        size: of what was written; known when `finish` returns.
    """

    def __init__(
        self,
        fd: int,
        compression: str = GZIP,
        level: int | None = None,
        *,
        threads: int | None = None,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(self._next)
        self._fd = fd
        self._format = _format(compression, level, threads)
        self._tell = tell
        self._writeback = Writeback(fd)
        self._pipeline: Pipeline | None = None
        self._is_alone = False
        self._inner = hashlib.sha256()
        self._outer = hashlib.sha256() if self._format.threads else self._inner
        self._before = b""
        self.uncompressed_size = 0
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pipeline is not None:
            self._pipeline.stop()

    def finish(self) -> tuple[str, str]:
        """End the stream; return the digests of what came in and of what was written."""
        self.end()
        if self._pipeline is not None:
            self._pipeline.finish()
        if not self.size:
            self._emit(self._format.head)
        self._emit(self._format.tail())
        return "sha256:" + self._inner.hexdigest(), "sha256:" + self._outer.hexdigest()

    def _next(self, buffer: bytearray, size: int) -> bytearray:
        """Take a piece; return a buffer for the one after it."""
        piece = Piece(buffer, size, self._before)
        self._before = bytes(memoryview(buffer)[max(0, size - WINDOW) : size])
        self.uncompressed_size += size
        if self._tell is not None and self.uncompressed_size % (16 * PIECE) == 0:
            self._tell(self.uncompressed_size)
        if self._pipeline is None and size == PIECE and not self._is_alone:
            self._start()
        if self._pipeline is not None:
            return self._pipeline.put(piece)
        if self._format.threads:
            piece.packed = self._format.pack(piece)
        self._end_piece(piece)
        return buffer

    def _start(self) -> None:
        """Start threads, where we may: a first whole piece, so the stream is worth it."""
        threads = self._format.threads
        try:
            self._pipeline = Pipeline(
                self._format.pack if threads else None, self._end_piece, threads
            )
        except RuntimeError:
            self._is_alone = True

    def _end_piece(self, piece: Piece) -> None:
        """Digest a piece and write what became of it: in order, in one thread."""
        if not self.size:
            self._emit(self._format.head)
        with memoryview(piece.buffer)[: piece.size] as data:
            self._inner.update(data)
            self._format.note(data)
            self._emit(piece.result() if self._format.threads else data)

    def _emit(self, data: bytes | memoryview) -> None:
        if not data:
            return
        if self._outer is not self._inner:
            self._outer.update(data)
        self.size += len(data)
        write_all(self._fd, data)
        self._writeback.reached(self.size)


def _format(compression: str, level: int | None, threads: int | None) -> _Format:
    if threads is None:
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    if compression == GZIP:
        return _Gzip(level, threads)
    if compression == ZSTD:
        return _Zstd(level, threads)
    if compression == UNCOMPRESSED:
        return _Plain()
    raise ValueError(f'compression "{compression}": expected one of {", ".join(COMPRESSIONS)}')


class _Gzip:
    head = HEAD

    def __init__(self, level: int | None, threads: int) -> None:
        self._blocks = GzipBlocks(level)
        self._checksum = 0
        self._size = 0
        self.threads = threads

    def pack(self, piece: Piece) -> bytes:
        with memoryview(piece.buffer)[: piece.size] as data:
            return self._blocks.block(data, piece.before)

    def note(self, data: memoryview) -> None:
        self._checksum = self._blocks.checksum(data, self._checksum)
        self._size += len(data)

    def tail(self) -> bytes:
        return tail(self._checksum, self._size)


class _Zstd:
    """zstd with threads of its own: as many as it likes, once there is one, give the same bytes.

    Each holds several windows, which are large at high levels: then there is none.
    """

    head = b""
    threads = 1  # of ours: its stream is one, written in its order

    def __init__(self, level: int | None, threads: int) -> None:
        import zstandard

        if level is None:
            level = _ZSTD_LEVEL
        if not 0 <= level <= 22:
            raise ValueError(f"compression level {level} for zstd: expected 0 to 22")
        self._stream = zstandard.ZstdCompressor(
            level=level,
            write_checksum=True,
            write_content_size=False,
            threads=max(1, min(threads, _MOST_ZSTD_THREADS)) if level <= _MOST_ZSTD_LEVEL else 0,
        ).compressobj()

    def pack(self, piece: Piece) -> bytes:
        with memoryview(piece.buffer)[: piece.size] as data:
            return self._stream.compress(data)

    def note(self, data: memoryview) -> None:
        pass

    def tail(self) -> bytes:
        return self._stream.flush()


class _Plain:
    head = b""
    threads = 0

    def pack(self, piece: Piece) -> bytes:
        raise NotImplementedError  # without threads a piece is written as it is

    def note(self, data: memoryview) -> None:
        pass

    def tail(self) -> bytes:
        return b""
