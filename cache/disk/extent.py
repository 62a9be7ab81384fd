"""The bytes of the disk that a tree takes: blocks, not lengths, each file once.

A sparse file takes what is not a hole. A file with several names in a tree is counted once; where
it has names in other trees too, each of them counts its share, so that the sum over all is right.
"""

from __future__ import annotations

import os
import stat

from pybuild.model.border import NamedTuple


class Extent(NamedTuple):
    """The bytes that a tree takes.

    Attributes:
        alone: no file of it has a name elsewhere, so its size changes with the tree only.
    """

    size: int
    alone: bool = True


def measure(path: str) -> int:
    """Return the bytes that a tree takes on the disk; see `extent`."""
    return extent(path).size


def extent(path: str) -> Extent:
    """Measure a tree or a file; links are not followed.

    What may not be looked into counts nothing.
    """
    total = 0
    linked: dict[tuple[int, int], tuple[os.stat_result, int]] = {}
    queue = [path]
    while queue:
        current = queue.pop()
        try:
            status = os.lstat(current)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            try:
                with os.scandir(current) as entries:
                    queue += [entry.path for entry in entries]
            except OSError:
                pass
        elif status.st_nlink > 1:
            inode = (status.st_dev, status.st_ino)
            linked[inode] = (status, linked.get(inode, (status, 0))[1] + 1)
            continue
        total += status.st_blocks * 512
    alone = True
    for status, names in linked.values():
        total += status.st_blocks * 512 * names // max(names, status.st_nlink)
        alone = alone and names >= status.st_nlink
    return Extent(total, alone)
