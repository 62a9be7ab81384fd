"""The compressions of layers, and decompression; `blobsink` is the other direction."""

from __future__ import annotations

import hashlib

from pybuild.image.layer.faults import refuse
from pybuild.image.layer.gzipblocks import isal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

PIECE = 1 << 20
GZIP, ZSTD, UNCOMPRESSED = "gzip", "zstd", "uncompressed"
COMPRESSIONS = (GZIP, ZSTD, UNCOMPRESSED)

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# 128 MiB, what zstd's own tools accept without being asked.
_ZSTD_WINDOW = 1 << 27
_ZSTD_FEED = 2048


class DigestedFile:
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


class LayerSource:
    """Reads a layer blob, decompressed by what its first bytes say, digesting both sides.

    The media type is not asked: registries serve gzip under plain types and the other way round.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        max_bytes: int | None = None,
        *hints: str,
        digests_blob: bool = True,
    ) -> None:
        """Args:
        read: returns up to that many bytes of the blob, nothing at its end.
        max_bytes: how long the uncompressed stream may be.
        hints: why it may not be longer.
        digests_blob: also the blob's own digest is wanted; else `digest` is empty.
        """
        self._read = read
        self._digests_blob = digests_blob
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
        if self._digests_blob and not self._plain:
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
        if not self._digests_blob:
            return ""
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
    isal_zlib = isal()
    member = isal_zlib.decompressobj(31)
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
                member = isal_zlib.decompressobj(31)
                continue
            data = member.unconsumed_tail
            if not data and not out:
                data = more()
                if not data:
                    raise refuse("gzip stream ends early")
    except isal_zlib.error as error:
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
