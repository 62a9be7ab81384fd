"""Archives that come compressed, made plain as they come: a small one may be endless inside [CTR-86]."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol

_MOST = 1 << 20
_MAGIC_BYTES = 6
_WINDOW = 1 << 27
_ZSTD_FEED = 512
"""Four bytes can stand for a block of 128 KiB: at most 16 MiB come out at once."""


Run = Callable[[Callable[[], bytes]], Awaitable[bytes]]
"""Does in a thread what takes time."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the face of bz2's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstd:
    """zstandard's decompressor with the face of bz2's, which bounds what comes out by what goes in."""

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise ValueError("the Python package zstandard is not installed here") from error
        self._inner = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._fault = zstandard.ZstdError
        self._waiting = b""
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        data = self._waiting + data
        fed, self._waiting = data[:_ZSTD_FEED], data[_ZSTD_FEED:]
        try:
            plain = self._inner.decompress(fed)
        except self._fault as error:
            raise ValueError(str(error)) from error
        if self._inner.eof:
            self.unused_data, self._waiting = self._inner.unused_data + self._waiting, b""
        return plain


_KINDS: tuple[tuple[bytes, Callable[[], _Decompressor]], ...] = (
    (b"\x1f\x8b", _Gzip),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
    (b"\x28\xb5\x2f\xfd", _Zstd),
)


async def decompressed(pieces: AsyncIterator[bytes], run: Run) -> AsyncGenerator[bytes]:
    """Yield plain pieces, none larger than a bound, of a body that gzip, bzip2, xz, zstd or nobody compressed.

    Raises:
        ValueError: it is damaged, or ends early.
    """
    start = b""
    async for piece in pieces:
        start += piece
        if len(start) >= _MAGIC_BYTES:
            break
    make = next((make for magic, make in _KINDS if start.startswith(magic)), None)
    if make is None:
        yield start
        async for piece in pieces:
            yield piece
        return
    member, piece = make(), start
    while True:
        while piece or not (member.needs_input or member.eof):
            if member.eof:
                piece = piece.lstrip(b"\0")  # zeros may fill up the end
                if not piece:
                    break
                member = make()
            try:
                data = await run(partial(member.decompress, piece, _MOST))
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise ValueError(str(error)) from error
            piece = member.unused_data if member.eof else b""
            if data:
                yield data
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            break
    if not member.eof:
        raise ValueError("it ends early")
