"""Trees of deltas for our own functions: an overlay, or directories full of links.

A file of a tree of links is the delta's own. Our functions replace files and never change them, so
that is safe, and costs a link a file; steps get copies (`leaves`).
"""

from __future__ import annotations

import itertools
import os

from pybuild.executor.zygote import overlay
from pybuild.executor.zygote.copied import leaves, scanning
from pybuild.executor.zygote.copied.difference import collect
from pybuild.executor.zygote.copied.merging import merge
from pybuild.executor.zygote.copied.overlaycheck import overlay_works_in
from pybuild.image.layer.confined import remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_count = itertools.count()
_made: list[str] = []


def view(directory: str, lowers: Sequence[str], *, userxattr: bool) -> str:
    """Return where the tree of *lowers* (base first) can be read.

    That is *directory*, which is empty, or one beside it that `discard` removes.
    """
    if overlay_works_in(directory):
        overlay.mount_overlay(directory, lowers, None, None, userxattr=userxattr)
        return directory
    path = f"{directory}.view-{os.getpid()}-{next(_count)}"
    os.mkdir(path, 0o700)
    _made.append(path)
    merge(lowers, path, leaves.link, userxattr=userxattr)
    return path


class Changing:
    """A tree of links that a function of ours changes.

    Args:
        base: its deltas, base first; *upper*: takes the changes; *work*: an empty directory.
    """

    def __init__(self, base: Sequence[str], upper: str, work: str, *, userxattr: bool) -> None:
        self.path = work + "/tree"
        self._upper = upper
        self._userxattr = userxattr
        os.mkdir(self.path)
        merge(base, self.path, leaves.link, userxattr=userxattr)
        self._before = scanning.scan(self.path, linked=True)
        scanning.wait_for_the_clock()

    def collect(self) -> None:
        """Move what was changed to where it is wanted; the tree is of no use after that."""
        collect(self.path, self._before, self._upper, userxattr=self._userxattr, linked=True)


def discard() -> None:
    """Remove what `view` made in this process."""
    while _made:
        path = _made.pop()
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(folder, os.fsencode(os.path.basename(path)))
        finally:
            os.close(folder)
