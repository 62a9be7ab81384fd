"""gzip made of blocks that can be compressed at the same time [OUT-10].

Each block is deflated by itself, with the end of what precedes it as its dictionary, and ends at a
whole byte; so blocks put one after the other are one stream of one member, as pigz makes them, hardly
larger than if it were made in one go. What comes out depends on where the blocks begin, and not on
how many are in work at once. The header is constant: no name, no time, unknown system. ISA-L makes the
blocks and nothing replaces it when it is missing, because a layer's digest depends on it.
"""

from __future__ import annotations

from pybuild.image.layer.faults import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WINDOW = 1 << 15
"""The number of bytes before a block that serve it as a dictionary."""
HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST_BLOCK = b"\x03\0"  # an empty one


def isal() -> Any:
    """Return ISA-L's module.

    Raises:
        EnvironmentFault: it is not installed.
    """
    try:
        from isal import isal_zlib
    except ImportError as error:
        raise refuse(
            "the Python package isal is not installed: layers cannot be compressed or unpacked",
            "pip install isal; another compressor would give other digests",
        ) from error
    return isal_zlib


def gzip_level(level: int | None) -> int:
    """Map gzip's levels 0 to 9 to ISA-L's 0 to 3; None is the default, ISA-L's 2.

    Raises:
        ValueError: outside 0 to 9.
    """
    if level is None:
        return 2
    if not 0 <= level <= 9:
        raise ValueError(f"compression level {level} for gzip: expected 0 to 9")
    return min(level, 2) if level < 7 else 3


class GzipBlocks:
    """Deflates the blocks of a stream, in any order and by any number of threads."""

    def __init__(self, level: int | None) -> None:
        self._isal = isal()
        self._level = gzip_level(level)

    def block(self, data: memoryview, before: bytes) -> bytes:
        """Return *data* deflated; *before* are up to `WINDOW` bytes that precede it."""
        isal_zlib = self._isal
        words = {"zdict": before} if before else {}
        deflate = isal_zlib.compressobj(self._level, isal_zlib.DEFLATED, -15, **words)
        packed: bytes = deflate.compress(data) + deflate.flush(isal_zlib.Z_SYNC_FLUSH)
        return packed

    def checksum(self, data: memoryview, before: int) -> int:
        """Return the checksum of the stream with *data*, of which so far it was *before*."""
        sum_: int = self._isal.crc32(data, before)
        return sum_


def tail(checksum: int, size: int) -> bytes:
    """Return the bytes behind the last block of a stream of *size* bytes."""
    return _LAST_BLOCK + checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def gzip_member(data: bytes, level: int | None) -> bytes:
    """Return *data* as one gzip member; the same data in, the same bytes out."""
    blocks = GzipBlocks(level)
    with memoryview(data) as view:
        return HEAD + blocks.block(view, b"") + tail(blocks.checksum(view, 0), len(data))
