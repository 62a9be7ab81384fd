"""Entries of trees, as a peer sends them."""

from __future__ import annotations

from pybuild.buildkit.fsutil import gomode
from pybuild.buildkit.fsutil.packet import (
    Stat,
    encode_stat,
)

FILE, DIR = 0o644, gomode.DIRECTORY | 0o755


def entry(path: bytes, mode: int = FILE, size: int = 0, link: bytes = b"") -> bytes:
    return encode_stat(Stat(path=path, mode=mode, size=size, linkname=link))
