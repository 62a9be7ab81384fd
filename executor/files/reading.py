"""The worker function that reads one file of a snapshot's tree, such as the Dockerfile of a repository."""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.apply import Mounts
from pybuild.executor.files.selecting import find
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Return the first ``limit`` bytes of the file ``path`` in the tree of ``deltas`` (base first).

    Links are followed inside the tree. Returns ``data``, or ``missing`` where there is no file.
    Needs a private mount namespace and ``mount_dir``, an empty directory.

    Raises:
        Fault: user; there is something that is no file.
    """
    mounts = Mounts(args["mount_dir"], args.get("userxattr"))
    if not args["deltas"]:
        return {"missing": True}
    with Tree.open(mounts.overlay(args["deltas"])) as tree:
        data = read_file(tree, args["path"], args["limit"])
    return {"missing": True} if data is None else {"data": data}


def read_file(tree: Tree, path: str, limit: int) -> bytes | None:
    """Return the first *limit* bytes of a file, links followed inside *tree*; None if there is none.

    Raises:
        Fault: user; there is something that is no file. OSError: it cannot be read.
    """
    try:
        place = find(tree, path, follow=True)
    except FileNotFoundError:
        return None
    with place:
        if place.status is None or not stat.S_ISREG(place.status.st_mode):
            raise Fault(USER, f"{path}: not a regular file")
        fd = os.open(place.name, _OPEN, dir_fd=place.fd)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Fault(USER, f"{path}: not a regular file")
        return file.read(limit)
