"""Worker functions that look into a snapshot's tree: at one entry, a directory, or a file's bytes."""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.apply import Mounts
from pybuild.executor.files.selecting import find
from pybuild.executor.files.values import DeltaStack, TreeEntry
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from pybuild.executor.files.tree import Tree, TreePlace
    from pybuild.model.border import WorkerCall

    _Seen = TypeVar("_Seen")

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAX_ENTRIES = 100_000


def entry(call: WorkerCall, mount_dir: str, deltas: Sequence[str], path: str) -> TreeEntry | None:
    """Return the entry at *path* in the tree of *deltas* (base first); links above its end are followed.

    All functions here return None where there is nothing, and need a private mount namespace and
    *mount_dir*, an empty directory.
    """
    name = path.rstrip("/").rpartition("/")[2] or "."

    def look(_: Tree, place: TreePlace, status: os.stat_result) -> TreeEntry:
        return _entry(name, status, place.fd, place.name)

    return _look(mount_dir, deltas, path, look, follow=False)


def entries(
    call: WorkerCall, mount_dir: str, deltas: Sequence[str], path: str
) -> list[TreeEntry] | None:
    """Return the entries of the directory *path*.

    Raises:
        Fault: user; it is no directory, or a very large one.
    """
    return _look(mount_dir, deltas, path, lambda tree, place, _: _list(tree, place, path))


def data(
    call: WorkerCall, mount_dir: str, deltas: Sequence[str], path: str, offset: int, limit: int
) -> bytes | None:
    """Return at most *limit* bytes of a file from *offset* on.

    Raises:
        Fault: user; it is no file.
    """

    def look(_: Tree, place: TreePlace, status: os.stat_result) -> bytes:
        return _read(place, status, path, offset, limit)

    return _look(mount_dir, deltas, path, look)


def _look(
    mount_dir: str,
    deltas: Sequence[str],
    path: str,
    look: Callable[[Tree, TreePlace, os.stat_result], _Seen],
    *,
    follow: bool = True,
) -> _Seen | None:
    if not deltas:
        return None
    with Mounts(mount_dir).tree(DeltaStack(deltas)) as tree:
        try:
            place = find(tree, path, follow=follow)
        except FileNotFoundError:
            return None
        with place:
            return None if place.status is None else look(tree, place, place.status)


def _list(tree: Tree, place: TreePlace, path: str) -> list[TreeEntry]:
    if not place.is_dir:
        raise Fault(USER, f"{path}: not a directory")
    fd = place.open_dir()
    try:
        names = sorted(os.listdir(fd))
        if len(names) > MAX_ENTRIES:
            raise Fault(USER, f"{path}: more than {MAX_ENTRIES} entries")
        return [_entry(name, tree.status(fd, name), fd, name) for name in names]
    finally:
        os.close(fd)


def _entry(shown: str, status: os.stat_result, fd: int, name: str) -> TreeEntry:
    mode = status.st_mode
    link = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(mode) else ""
    is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return TreeEntry(
        shown,
        mode,
        status.st_uid,
        status.st_gid,
        status.st_size if stat.S_ISREG(mode) else 0,
        status.st_mtime_ns,
        link,
        os.major(status.st_rdev) if is_device else 0,
        os.minor(status.st_rdev) if is_device else 0,
    )


def _read(place: TreePlace, status: os.stat_result, path: str, offset: int, limit: int) -> bytes:
    if stat.S_ISDIR(status.st_mode):
        raise Fault(USER, f"read {path}: is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise Fault(USER, f"{path}: not a regular file")
    fd = os.open(place.name, _OPEN, dir_fd=place.fd)
    with os.fdopen(fd, "rb") as file:
        file.seek(offset)
        return file.read(limit)
