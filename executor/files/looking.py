"""The worker function that tells what is in a snapshot's tree: one entry, a directory, or a file's bytes."""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.apply import Mounts
from pybuild.executor.files.selecting import find
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pybuild.executor.files.tree import Place, Tree

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAX_ENTRIES = 100_000


def look(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Look at ``path`` in the tree of ``deltas`` (base first); links above its end are followed.

    Args:
        what: ``stat`` gives ``entry``; ``list`` gives ``entries``; ``read`` gives ``data``, from
            ``offset`` on, at most ``limit`` bytes, links followed at its end too.

    An entry is name, mode, uid, gid, size, mtime in ns, link target, device major and minor.
    Returns ``missing`` where there is nothing. Needs a private mount namespace and ``mount_dir``.

    Raises:
        Fault: user; a directory where a file is meant, or the other way round, or too much.
    """
    mounts = Mounts(args["mount_dir"], args.get("userxattr"))
    path, what = args["path"], args["what"]
    if not args["deltas"]:
        return {"missing": True}
    with mounts.tree({"deltas": args["deltas"]}) as tree:
        try:
            place = find(tree, path, follow=what != "stat")
        except FileNotFoundError:
            return {"missing": True}
        with place:
            if place.status is None:
                return {"missing": True}
            if what == "stat":
                name = path.rstrip("/").rpartition("/")[2]
                return {"entry": _entry(name or ".", place.status, place.fd, place.name)}
            if what == "list":
                return {"entries": _list(tree, place, path)}
            return {"data": _read(place, path, args["offset"], args["limit"])}


def _list(tree: Tree, place: Place, path: str) -> list[list[Any]]:
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


def _entry(shown: str, status: os.stat_result, fd: int, name: str) -> list[Any]:
    mode = status.st_mode
    link = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(mode) else ""
    is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return [
        shown,
        mode,
        status.st_uid,
        status.st_gid,
        status.st_size if stat.S_ISREG(mode) else 0,
        status.st_mtime_ns,
        link,
        os.major(status.st_rdev) if is_device else 0,
        os.minor(status.st_rdev) if is_device else 0,
    ]


def _read(place: Place, path: str, offset: int, limit: int) -> bytes:
    assert place.status is not None
    if stat.S_ISDIR(place.status.st_mode):
        raise Fault(USER, f"read {path}: is a directory")
    if not stat.S_ISREG(place.status.st_mode):
        raise Fault(USER, f"{path}: not a regular file")
    fd = os.open(place.name, _OPEN, dir_fd=place.fd)
    with os.fdopen(fd, "rb") as file:
        file.seek(offset)
        return file.read(limit)
