"""A walk down a tree that keeps one descriptor at any depth, and follows no link. Lean."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def step(fd: int, name: bytes) -> int:
    """Open directory *name* of *fd* in place of *fd*."""
    inner = os.open(name, OPEN_DIR, dir_fd=fd)
    os.close(fd)
    return inner


def directories(root: str | bytes) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """Yield each directory of a tree: its descriptor, its path with a slash, and an empty list.

    What is put into the list are names of directories in it to visit, the last one first. The path of
    the root is empty; a descriptor holds until the next one is asked for.
    """
    fd = os.open(root, OPEN_DIR)
    try:
        below: list[bytes] = []
        levels = [(b"", below)]
        yield fd, b"", below
        while levels:
            prefix, below = levels[-1]
            if not below:
                levels.pop()
                if levels:
                    fd = step(fd, b"..")
                continue
            name = below.pop()
            fd = step(fd, name)
            levels.append((prefix + name + b"/", []))
            yield fd, *levels[-1]
    finally:
        os.close(fd)
