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


_KINDS: tuple[tuple[bytes, Callable[[], _Decompressor]], ...] = (
    (b"\x1f\x8b", _Gzip),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
)


async def decompressed(pieces: AsyncIterator[bytes], run: Run) -> AsyncGenerator[bytes]:
    """Yield plain pieces, none larger than a bound, of a body that gzip, bzip2, xz or nobody compressed.

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
