"""One more delta on top of a tree that is there already: what `merging` would have made of both."""

from __future__ import annotations

import os
import stat

from pybuild.executor.zygote.copied import leaves
from pybuild.image.layer import overlayfs
from pybuild.image.layer.confined import remove
from pybuild.image.layer.descent import OPEN_DIR, step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.zygote.copied.merging import Place


def apply(delta: str, tree: str, place: Place, *, userxattr: bool) -> None:
    """Make the directory *tree* what it is with *delta* on it.

    Args:
        place: how a file comes into the tree, from `leaves`.
    """
    work = _Applying(place, overlayfs.namespace(userxattr), overlayfs.is_overlay(delta))
    work.run(delta, tree)


class _Applying:
    def __init__(self, place: Place, own: str, noted: bool) -> None:
        self._place = place
        self._own = own
        self._noted = noted

    def run(self, delta: str, tree: str) -> None:
        source, target = os.open(delta, OPEN_DIR), os.open(tree, OPEN_DIR)
        try:
            levels = [self._enter(source, target)]
            while levels:
                if levels[-1]:
                    name = levels[-1].pop()
                    source, target = step(source, name), step(target, name)
                    levels.append(self._enter(source, target))
                    continue
                # Times last: what was put in has changed them.
                leaves.describe(source, target, os.fstat(source))
                levels.pop()
                if levels:
                    source, target = step(source, b".."), step(target, b"..")
        finally:
            os.close(source)
            os.close(target)

    def _enter(self, source: int, target: int) -> list[bytes]:
        """Put in all but directories; return their names, each of which *target* then has."""
        below: list[bytes] = []
        with os.scandir(source) as entries:
            listed = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        for text, status in listed:
            name = os.fsencode(text)
            there = _mode(target, name)
            if stat.S_ISDIR(status.st_mode):
                path = f"/proc/self/fd/{source}/{text}"
                opaque = overlayfs.is_opaque(path, self._own, noted=self._noted)
                if there and (opaque or not stat.S_ISDIR(there)):
                    remove(target, name)
                    there = 0
                if not there:
                    os.mkdir(name, 0o700, dir_fd=target)
                below.append(name)
                continue
            if there:
                remove(target, name)
            if not overlayfs.is_whiteout(status, source, name, noted=self._noted):
                self._place(source, text, target, status)
        return below


def _mode(fd: int, name: bytes) -> int:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0
