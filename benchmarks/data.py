"""Bytes and files that are the same in each run, and compress like programs do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_POOL_BYTES = 8 << 20
PIECE = 1 << 20


@cache
def _pool() -> bytes:
    """Half words, half noise: gzip makes about a third of it."""
    rng = random.Random(4711)
    words = [rng.randbytes(rng.randint(3, 10)).hex().encode() for _ in range(800)]
    pieces: list[bytes] = []
    size = 0
    while size < _POOL_BYTES:
        text = b" ".join(rng.choices(words, k=64))
        noise = rng.randbytes(96)
        pieces += [text, noise]
        size += len(text) + len(noise)
    return b"".join(pieces)[:_POOL_BYTES]


def chunk(size: int, seed: int) -> bytes:
    """Return *size* bytes, at most `PIECE`, of which no two seeds give the same."""
    start = (seed * 7_919_117) % (_POOL_BYTES - size)
    mark = b"%016x" % seed
    return (mark + _pool()[start : start + size])[:size]


def pieces(size: int, seed: int) -> Iterator[bytes]:
    """Yield *size* bytes in pieces."""
    for number in range((size + PIECE - 1) // PIECE):
        yield chunk(min(PIECE, size - number * PIECE), seed * 65_537 + number)


def write_file(path: Path, size: int, seed: int) -> None:
    """Write a file of so many bytes."""
    with path.open("wb") as file:
        for piece in pieces(size, seed):
            file.write(piece)


def write_tree(root: Path, files: int, size: int, *, per_directory: int = 100) -> list[Path]:
    """Make a tree of small files; return their paths."""
    paths: list[Path] = []
    for number in range(files):
        group = number // per_directory
        directory = root / f"d{group // 100:03}" / f"e{group % 100:02}"
        if number % per_directory == 0:
            directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"f{number % per_directory:03}.c"
        path.write_bytes(chunk(size, number))
        paths.append(path)
    return paths
