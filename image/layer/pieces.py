"""A stream cut into pieces of one size, whatever the writes to it look like.

Compressors need that, see `blobsink`; and files' contents are read straight into the pieces, so that
a byte is copied once between a file and its compressor. Lean: runs in workers.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 1 << 19
SMALL = 1 << 16
"""The size up to which bytes are copied once more rather than read into their place."""


class Chunker:
    """Takes a stream; each piece of `PIECE` bytes, and at `end` what is left, is handed on.

    Args:
        take: is given a buffer and how many bytes of it count, and returns the buffer to go on with:
            the same, if it needs it no more, or another of `PIECE` bytes.
    """

    def __init__(self, take: Callable[[bytearray, int], bytearray]) -> None:
        self._take = take
        self._buffer = bytearray(PIECE)
        self._at = 0

    @classmethod
    def into(cls, write: Callable[[memoryview], object]) -> Chunker:
        """Return one whose pieces are given to *write*, which may not keep the memory."""

        def take(buffer: bytearray, size: int) -> bytearray:
            with memoryview(buffer)[:size] as data:
                write(data)
            return buffer

        return cls(take)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes, any number of them."""
        at = self._at
        end = at + len(data)
        if end < PIECE:
            self._buffer[at:end] = data
            self._at = end
            return
        view = memoryview(data)
        while len(view) >= PIECE - at:
            room = PIECE - at
            self._buffer[at:] = view[:room]
            view = view[room:]
            self._pass_on(PIECE)
            at = 0
        self._buffer[: len(view)] = view
        self._at = len(view)

    def read_from(self, fd: int, size: int) -> bool:
        """Take the next *size* bytes of a file; False: it has fewer."""
        while size:
            if size < SMALL and size < PIECE - self._at:
                data = os.read(fd, size)
                count = len(data)
                self._buffer[self._at : self._at + count] = data
            else:
                with memoryview(self._buffer) as view:
                    count = os.readv(fd, [view[self._at : self._at + size]])
            if not count:
                return False
            size -= count
            self._at += count
            if self._at == PIECE:
                self._pass_on(PIECE)
        return True

    def end(self) -> None:
        """Hand on what is left."""
        if self._at:
            self._pass_on(self._at)

    def _pass_on(self, size: int) -> None:
        self._buffer = self._take(self._buffer, size)
        self._at = 0
