"""The size of a layer's blob when it is unpacked, from what its format says of itself."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable

from pybuild.model.descriptor import Descriptor
from pybuild.model.missing import BlobMissing

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SEVERAL_MEMBERS = "containerd.io/snapshot/stargz/toc.digest"
_PIECE = 1 << 20


def unpacked_size(path: str, layer: Descriptor) -> int | None:
    """Return the bytes of the tar in the blob at *path*; None where it is not there, or no layer.

    One gzip member, as most layers are, ends with its size; others are read through.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            size = os.fstat(file.fileno()).st_size
            file.seek(0)
            if head.startswith(_GZIP):
                if _SEVERAL_MEMBERS not in layer.annotations:
                    file.seek(-4, os.SEEK_END)
                    recorded = int.from_bytes(file.read(4), "little")
                    # It counts modulo 4 GiB, and of the last member only: then it is too small.
                    if size > _PIECE and recorded * 1.01 > size:
                        return recorded
                    file.seek(0)
                return _counted_gzip(file.read)
            if head == _ZSTD:
                import zstandard

                with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as s:
                    return sum(map(len, iter(lambda: s.read(_PIECE), b"")))
            return size if layer.media_type.endswith("tar") else None
    except (OSError, EOFError, zlib.error, BlobMissing, ImportError):
        return None


def _counted_gzip(read: Callable[[int], bytes]) -> int:
    total, rest = 0, b""
    member = zlib.decompressobj(wbits=31)
    while data := rest or read(_PIECE):
        total += len(member.decompress(data))
        rest = member.unused_data
        if member.eof:
            member = zlib.decompressobj(wbits=31)
    return total
