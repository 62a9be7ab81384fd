"""Trees of deltas for our own functions: an overlay, or directories full of links.

A file of a tree of links is the delta's own. Our functions replace files and never change them, so
that is safe, and costs a link a file; steps get copies (`leaves`).
"""

from __future__ import annotations

import itertools
import os

from pybuild.executor.zygote import isolation, overlay, syscalls
from pybuild.executor.zygote.copied import leaves, scanning
from pybuild.executor.zygote.copied.difference import collect
from pybuild.executor.zygote.copied.merging import merge
from pybuild.image.layer import overlayfs
from pybuild.image.layer.confined import remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_count = itertools.count()
_made: list[str] = []
_tried: dict[int, bool] = {}
# ext2 to ext4, xfs, btrfs, tmpfs
_GOOD = (0xEF53, 0x58465342, 0x9123683E, 0x01021994)


def view(directory: str, lowers: Sequence[str], *, userxattr: bool) -> str:
    """Return where the tree of *lowers* (base first) can be read.

    That is *directory*, which is empty, or one beside it that `discard` removes.
    """
    if not needed(directory):
        overlay.mount_overlay(directory, lowers, None, None, userxattr=userxattr)
        return directory
    path = f"{directory}.view-{os.getpid()}-{next(_count)}"
    os.mkdir(path, 0o700)
    _made.append(path)
    merge(lowers, path, leaves.link, userxattr=userxattr)
    return path


def needed(path: str) -> bool:
    """Whether there can be no overlay in the directory *path*: not on this rung, or not there.

    Where file systems are not known to be good for it, it is tried, once for all our children.
    """
    if not isolation.in_zygote():
        return False
    if not isolation.mounts():
        return True
    kind = overlayfs.file_system(path)
    if kind in _GOOD:
        return False
    if kind == overlayfs.MAGIC:
        return True
    device = os.stat(path).st_dev
    if device not in _tried:
        _tried[device] = _refused(path)
    return _tried[device]


def _refused(path: str) -> bool:
    from pybuild.executor.zygote import tries

    def mount(place: str) -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        tries.overlay_on(place, userxattr=isolation.uses_userxattr())

    place = f"{path}.try-{os.getpid()}"
    os.mkdir(place, 0o700)
    try:
        return bool(tries.outcome(mount, place))
    finally:
        folder = os.open(os.path.dirname(place), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(folder, os.fsencode(os.path.basename(place)))
        finally:
            os.close(folder)


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
