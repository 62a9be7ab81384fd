"""Compressors and decompressors of layers, hashing what goes in and what comes out.

A layer's digest depends on every detail here [OUT-10], so: ISA-L makes the gzip streams and nothing
replaces it when it is missing; the gzip header is constant (no name, no time, unknown system);
and because ISA-L's and zstd's output depends on how the input is cut (seen with ISA-L 2.31), the
input is cut into pieces of exactly `PIECE` bytes whatever the caller's writes look like.
"""

from __future__ import annotations

import hashlib
import os

from pybuild.image.refusal import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, Protocol

    class _Compressor(Protocol):
        def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...
        def flush(self) -> bytes: ...


PIECE = 1 << 20
GZIP, ZSTD, UNCOMPRESSED = "gzip", "zstd", "uncompressed"
COMPRESSIONS = (GZIP, ZSTD, UNCOMPRESSED)

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# 128 MiB, what zstd's own tools accept without being asked.
_ZSTD_WINDOW = 1 << 27
_ZSTD_LEVEL = 3
_ZSTD_FEED = 2048


def gzip_level(level: int | None) -> int:
    """Map gzip's levels 0 to 9 to ISA-L's 0 to 3; None is the default, ISA-L's 2 [OUT-10].

    Raises:
        ValueError: outside 0 to 9.
    """
    if level is None:
        return 2
    if not 0 <= level <= 9:
        raise ValueError(f"compression level {level} for gzip: expected 0 to 9")
    return min(level, 2) if level < 7 else 3


class _Gzip:
    def __init__(self, level: int | None) -> None:
        isal = _isal()
        self._crc32 = isal.crc32
        self._deflate = isal.compressobj(gzip_level(level), isal.DEFLATED, -15)
        self._crc = 0
        self._length = 0
        self._head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        self._crc = self._crc32(data, self._crc)
        self._length += len(data)
        head, self._head = self._head, b""
        packed: bytes = self._deflate.compress(data)
        return head + packed

    def flush(self) -> bytes:
        tail = self._crc.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(4, "little")
        head, self._head = self._head, b""
        packed: bytes = self._deflate.flush()
        return head + packed + tail


def gzip_member(data: bytes, level: int | None) -> bytes:
    """Return *data* as one gzip member; the same data in, the same bytes out."""
    gzip = _Gzip(level)
    return gzip.compress(data) + gzip.flush()


class Digested:
    """A file that is written to, with the digest and size of what was."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._out.write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class _Plain:
    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def _compressor(compression: str, level: int | None) -> _Compressor:
    if compression == GZIP:
        return _Gzip(level)
    if compression == ZSTD:
        import zstandard

        if level is not None and not 0 <= level <= 22:
            raise ValueError(f"compression level {level} for zstd: expected 0 to 22")
        return zstandard.ZstdCompressor(
            level=_ZSTD_LEVEL if level is None else level,
            write_checksum=True,
            write_content_size=False,
            threads=0,
        ).compressobj()
    if compression == UNCOMPRESSED:
        return _Plain()
    raise ValueError(f'compression "{compression}": expected one of {", ".join(COMPRESSIONS)}')


def _isal() -> Any:
    try:
        from isal import isal_zlib
    except ImportError as error:
        raise refuse(
            "the Python package isal is not installed: layers cannot be compressed or unpacked",
            "pip install isal; another compressor would give other digests",
        ) from error
    return isal_zlib


class BlobSink:
    """Writes a stream to a file descriptor, compressed, and digests both sides on the way."""

    def __init__(self, fd: int, compression: str = GZIP, level: int | None = None) -> None:
        self._fd = fd
        self._compressor = _compressor(compression, level)
        self._plain = compression == UNCOMPRESSED
        self._inner = hashlib.sha256()
        self._outer = hashlib.sha256()
        self._pending = bytearray()
        self.uncompressed_size = 0
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes, any number of them."""
        if not self._pending and len(data) == PIECE:
            self._piece(data)
            return
        pending = self._pending
        pending += data
        if len(pending) < PIECE:
            return
        view = memoryview(pending)
        whole = len(pending) // PIECE * PIECE
        for start in range(0, whole, PIECE):
            self._piece(view[start : start + PIECE])
        self._pending = bytearray(view[whole:])

    def finish(self) -> tuple[str, str]:
        """End the stream; return the digests of what came in and of what was written."""
        if self._pending:
            self._piece(self._pending)
            self._pending = bytearray()
        self._emit(self._compressor.flush())
        outer = self._inner if self._plain else self._outer
        return "sha256:" + self._inner.hexdigest(), "sha256:" + outer.hexdigest()

    def _piece(self, data: bytes | bytearray | memoryview) -> None:
        self._inner.update(data)
        self.uncompressed_size += len(data)
        self._emit(data if self._plain else self._compressor.compress(data))

    def _emit(self, data: bytes | bytearray | memoryview) -> None:
        if not data:
            return
        if not self._plain:
            self._outer.update(data)
        self.size += len(data)
        write_all(self._fd, data)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte of *data*; write(2) may take fewer."""
    written = os.write(fd, data)
    while written < len(data):
        data = memoryview(data)[written:]
        written = os.write(fd, data)


class LayerSource:
    """Reads a layer blob, decompressed by what its first bytes say, digesting both sides.

    The media type is not asked: registries serve gzip under plain types and the other way round.
    """

    def __init__(
        self, read: Callable[[int], bytes], max_bytes: int | None = None, *hints: str
    ) -> None:
        """Args:
        read: returns up to that many bytes of the blob, nothing at its end.
        max_bytes: how long the uncompressed stream may be.
        hints: why it may not be longer.
        """
        self._read = read
        self._max = max_bytes
        self._hints = hints
        self._inner = hashlib.sha256()
        self._outer = hashlib.sha256()
        self._plain = False
        self.compressed_size = 0
        self.size = 0
        first = self._raw()
        while first and len(first) < 4:
            more = self._raw()
            if not more:
                break
            first += more
        self.compression = sniff(first)
        if self.compression == GZIP:
            self._pieces = _gunzip(first, self._raw)
        elif self.compression == ZSTD:
            self._pieces = _unzstd(first, self._raw)
        else:
            self._plain = True  # both digests are one, and taken once
            self._pieces = _through(first, self._raw)

    def _raw(self) -> bytes:
        # Small, because each gzip member copies what follows it: a stream of a million empty
        # members must not cost a million copies of a large piece.
        data = self._read(PIECE // 16)
        if not self._plain:
            self._outer.update(data)
        self.compressed_size += len(data)
        return data

    def read(self) -> bytes:
        """Return the next piece of the uncompressed stream, nothing at its end.

        Raises:
            EnvironmentFault: the stream is damaged or longer than allowed.
        """
        data = next(self._pieces, b"")
        self.size += len(data)
        if self._max is not None and self.size > self._max:
            text = f"layer is larger than {self._max} bytes when uncompressed"
            raise refuse(text, *self._hints)
        self._inner.update(data)
        return data

    def drain(self) -> None:
        """Read to the end, for the digests' sake."""
        while self.read():
            pass

    @property
    def digest(self) -> str:
        """The digest of the blob as far as it was read."""
        return self.diff_id if self._plain else "sha256:" + self._outer.hexdigest()

    @property
    def diff_id(self) -> str:
        """The digest of the uncompressed stream as far as it was read."""
        return "sha256:" + self._inner.hexdigest()


def sniff(head: bytes) -> str:
    """Name the compression of a stream by its first four bytes."""
    if head.startswith(_GZIP_MAGIC):
        return GZIP
    # A zstd stream may also begin with a skippable frame.
    if head.startswith(_ZSTD_MAGIC) or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return ZSTD
    return UNCOMPRESSED


def _through(first: bytes, more: Callable[[], bytes]) -> Iterator[bytes]:
    while first:
        yield first
        first = more()


def _gunzip(data: bytes, more: Callable[[], bytes]) -> Iterator[bytes]:
    isal = _isal()
    member = isal.decompressobj(31)
    try:
        while True:
            out = member.decompress(data, PIECE)
            if out:
                yield out
            if member.eof:
                # Members may follow each other [RFC 1952, 2.2]; anything else there is damage.
                data = member.unused_data or more()
                if not data:
                    return
                member = isal.decompressobj(31)
                continue
            data = member.unconsumed_tail
            if not data and not out:
                data = more()
                if not data:
                    raise refuse("gzip stream ends early")
    except isal.error as error:
        raise refuse(f"damaged gzip stream: {error}") from error


def _unzstd(data: bytes, more: Callable[[], bytes]) -> Iterator[bytes]:
    # The library's stream reader takes a cut stream for a whole one, and its decompression object
    # knows no bound for its output. 4 bytes can stand for a block of 128 KiB, so what goes in at a
    # time is small: at most 64 MiB can come out.
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = context.decompressobj()
    at = held = 0
    parts: list[bytes] = []
    try:
        while True:
            out = frame.decompress(data[at : at + _ZSTD_FEED])
            at += _ZSTD_FEED
            if out:
                parts.append(out)
                held += len(out)
                if held >= PIECE // 4:
                    yield b"".join(parts)
                    parts.clear()
                    held = 0
            if frame.eof:
                at = min(at, len(data)) - len(frame.unused_data)
                if at >= len(data):
                    data, at = more(), 0
                    if not data:
                        break
                frame = context.decompressobj()
            elif at >= len(data):
                data, at = more(), 0
                if not data:
                    raise refuse("zstd stream ends early")
    except zstandard.ZstdError as error:
        raise refuse(f"damaged zstd stream: {error}") from error
    if parts:
        yield b"".join(parts)
