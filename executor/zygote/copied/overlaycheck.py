"""Whether a tree can be an overlay, or has to be copied. Small: what copies is for few machines."""

from __future__ import annotations

import os

from pybuild.executor.zygote import isolation, syscalls
from pybuild.image.layer import overlayfs

_tried: dict[int, bool] = {}
# ext2 to ext4, xfs, btrfs, tmpfs
_GOOD = (0xEF53, 0x58465342, 0x9123683E, 0x01021994)


def overlay_works_in(directory: str) -> bool:
    """Whether there can be an overlay in *directory*: on this rung, and in its file system.

    Where file systems are not known to be good for it, it is tried, once for all our children.
    """
    if not isolation.in_zygote():
        return True
    if not isolation.mounts():
        return False
    kind = overlayfs.file_system(directory)
    if kind in _GOOD or kind == overlayfs.MAGIC:
        return kind in _GOOD
    device = os.stat(directory).st_dev
    if device not in _tried:
        _tried[device] = _try_in(directory)
    return _tried[device]


def _try_in(directory: str) -> bool:
    from pybuild.executor.zygote import tries
    from pybuild.image.layer.confined import remove

    def mount(place: str) -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        tries.overlay_on(place, userxattr=isolation.uses_userxattr())

    place = f"{directory}.try-{os.getpid()}"
    os.mkdir(place, 0o700)
    try:
        return not tries.outcome(mount, place)
    finally:
        folder = os.open(os.path.dirname(place), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(folder, os.fsencode(os.path.basename(place)))
        finally:
            os.close(folder)
