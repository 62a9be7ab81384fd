"""A /dev of a few nodes, made by mknod(2) where others bind the host's."""

from __future__ import annotations

import os
import stat

from pybuild.executor.zygote import nodes
from pybuild.executor.zygote.faults import USER, Fault

_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
_RANDOM_BYTES = 64 << 10


def make(path: str) -> list[str]:
    """Fill the new directory *path*; return what a step has to do without, as warnings."""
    os.mkdir(path, 0o755)
    refused: list[str] = []
    for name, (major, minor) in nodes.NAMES.items():
        place = f"{path}/{name}"
        if not _node(place, os.makedev(major, minor)):
            refused.append(name)
            _stand_in(place, name)
    for name, target in _LINKS:
        os.symlink(target, f"{path}/{name}")
    os.mkdir(f"{path}/pts", 0o755)
    os.mkdir(f"{path}/shm")
    os.chmod(f"{path}/shm", 0o1777)
    if not refused:
        return []
    names = ", ".join(f"/dev/{name}" for name in refused)
    return [f"plain files stand for {names}: devices cannot be made or opened in the store"]


def _node(path: str, number: int) -> bool:
    """Make a device that can be opened: on a file system that is mounted nodev it cannot."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, number)
        os.chmod(path, 0o666)
        if os.major(number) != 5:  # a terminal is not there for everybody
            os.close(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _stand_in(path: str, name: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        if name in ("random", "urandom"):
            file.write(os.urandom(_RANDOM_BYTES))
    os.chmod(path, 0o666)


def copy(source: str, path: str) -> None:
    """Make the device that *source* is.

    Raises:
        Fault: user; it is none, or we may not.
    """
    try:
        status = os.stat(source)
        if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise Fault(USER, f'device "{source}": not a device')
        os.mknod(path, status.st_mode, status.st_rdev)
        os.chmod(path, stat.S_IMODE(status.st_mode))
        os.chown(path, status.st_uid, status.st_gid)
    except OSError as error:
        raise Fault(USER, f'device "{source}": {(error.strerror or "").lower()}') from error
