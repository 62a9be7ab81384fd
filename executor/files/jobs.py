"""Small jobs of workers on files, each imported by its name: delete, measure, read, date, digest.

Heavy modules are imported by the jobs that need them, so that a deletion waits for none of them.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pybuild.executor.files.tree import Tree

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REGULAR = frozenset((b"0", b"\0", b"7"))
# Bytes to which an archive may unpack while it is looked through; the time matters more than the space.
_MAX_BYTES = 64 << 30
_DEEP = 20_000


def remove(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Delete the tree at ``path``, of other user ids too; return the bytes ``freed``.

    A tree that is not there is fine.
    """
    from pybuild.cache.disk.trees import remove_tree

    return {"freed": remove_tree(args["path"])}


def measure(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Return the space of the tree at ``path`` on the disk: ``size``, ``alone``; see `Extent`."""
    from pybuild.cache.disk.extent import extent

    measured = extent(args["path"])
    return {"size": measured.size, "alone": measured.alone}


def read(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Return the first ``limit`` bytes of the file ``path`` in the tree of ``deltas`` (base first).

    Links are followed inside the tree. Returns ``data``, or ``missing`` where there is no file.
    Needs a private mount namespace and ``mount_dir``, an empty directory.

    Raises:
        Fault: user; there is something that is no file.
    """
    from pybuild.executor.files.apply import Mounts
    from pybuild.executor.files.tree import Tree

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
    from pybuild.executor.files.selecting import find
    from pybuild.executor.zygote.faults import USER, Fault

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


def newest(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Return ``seconds``, the newest time of a regular file in the archive ``path`` [REP-1].

    Returns nothing where the file is no archive, a damaged one, or has no regular files.
    """
    from pybuild.executor.files.archives import Damaged, capped, open_archive
    from pybuild.executor.zygote.faults import Fault
    from pybuild.image.layer.tarreader import TarReader

    fd = os.open(args["path"], _OPEN)
    try:
        source = open_archive(fd)
        if source is None:
            return {}
        newest_ns: int | None = None
        reader = TarReader(capped(source, os.path.basename(args["path"]), _MAX_BYTES))
        while (member := reader.next()) is not None:
            if member.kind in _REGULAR and (newest_ns is None or member.mtime_ns > newest_ns):
                newest_ns = member.mtime_ns
    except Damaged:
        return {}
    except Exception as error:
        from pybuild.model.errors import PybuildError

        if isinstance(error, (Fault, PybuildError)):
            return {}
        raise
    finally:
        os.close(fd)
    return {} if newest_ns is None else {"seconds": newest_ns // 1_000_000_000}


def digest(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Digest one selection of the tree of ``deltas`` (base first), mounted on ``mount_dir``.

    Returns ``digest`` and ``entries``, or ``missing``: the path that is not there.
    """
    from pybuild.executor.files.apply import Mounts
    from pybuild.executor.trees.treehash import NotFound, tree_digest

    sys.setrecursionlimit(_DEEP)
    with (
        Mounts(args["mount_dir"], args.get("userxattr")) as mounts,
        mounts.tree({"deltas": args["deltas"]}) as tree,
    ):
        try:
            value, entries = tree_digest(tree, args["selection"])
        except NotFound as missing:
            return {"missing": missing.path}
    return {"digest": value, "entries": entries}
