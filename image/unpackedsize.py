"""The size of a layer's blob when it is unpacked, from what its format says of itself."""

from __future__ import annotations

import os

from pybuild.image.layer.compression import GZIP, UNCOMPRESSED, LayerSource, sniff
from pybuild.image.layer.estargz import TOC_DIGEST
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import PybuildError

_LARGE = 1 << 20


def unpacked_size(path: str, layer: Descriptor) -> int | None:
    """Return the bytes of the tar in the blob at *path*; None where it is not there, or no layer.

    One gzip member, as most layers are, ends with its size; others are read through.
    """
    try:
        with open(path, "rb") as file:
            compression = sniff(file.read(4))
            size = os.fstat(file.fileno()).st_size
            if compression == UNCOMPRESSED:
                return size if layer.media_type.endswith("tar") else None
            if compression == GZIP and size > _LARGE and TOC_DIGEST not in layer.annotations:
                file.seek(-4, os.SEEK_END)
                recorded = int.from_bytes(file.read(4), "little")
                # It counts modulo 4 GiB, and of the last member only: then it is too small.
                if recorded * 1.01 > size:
                    return recorded
            file.seek(0)
            source = LayerSource(file.read, digests_blob=False)
            source.drain()
            return source.size
    except (OSError, PybuildError, ImportError):
        return None
