"""Small jobs of workers on files, each imported by its name: delete, measure, read, own, date, digest.

Heavy modules are imported by the jobs that need them, so that a deletion waits for none of them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from pybuild.executor.files.values import DeltaStack, MissingPath, TreeDigest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.cache.disk.extent import Extent
    from pybuild.executor.files.tree import Tree
    from pybuild.model.border import WorkerCall
    from pybuild.model.selection import Selection

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REGULAR = frozenset((b"0", b"\0", b"7"))
# Bytes to which an archive may unpack while it is looked through; the time matters more than the space.
_MAX_BYTES = 64 << 30
_DIGESTING = ("executor.files.apply", "executor.trees.treehash", "model.selection")
IMPORTED_LATER = {"digest": tuple(f"pybuild.{name}" for name in _DIGESTING)}
_COPIED_FROM = "that tree"
_DEEP = 20_000


def remove(call: WorkerCall, path: str) -> int:
    """Delete the tree at *path*, of other user ids too; return the bytes that are free now.

    A tree that is not there is fine.
    """
    from pybuild.cache.disk.trees import remove_tree

    return remove_tree(path)


def measure(call: WorkerCall, path: str) -> Extent:
    """Return the space of the tree at *path* on the disk."""
    from pybuild.cache.disk.extent import extent

    return extent(path)


def read(
    call: WorkerCall, mount_dir: str, deltas: Sequence[str], path: str, limit: int
) -> bytes | None:
    """Return the first *limit* bytes of the file *path* in the tree of *deltas* (base first).

    Links are followed inside the tree. Returns None where there is no file. Needs a private mount
    namespace and *mount_dir*, an empty directory.

    Raises:
        Fault: user; there is something that is no file.
    """
    from pybuild.executor.files.apply import Mounts
    from pybuild.executor.files.tree import Tree

    if not deltas:
        return None
    with Tree.open(Mounts(mount_dir).overlay(deltas)) as tree:
        return read_file(tree, path, limit)


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


def same_file(call: WorkerCall, source: str, target: str) -> None:
    """Make the new file *target* of the bytes of *source*, whoever owns that."""
    import shutil

    shutil.copyfile(source, target, follow_symlinks=False)


def own(call: WorkerCall, path: str, uid: int, gid: int, mode: int) -> None:
    """Give *path*, which is no link, its owner and mode."""
    from pybuild.executor.zygote import isolation

    try:
        os.chown(path, uid, gid, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise isolation.unmapped_id(f"owner {uid}:{gid}") from error
        raise
    os.chmod(path, mode)


def newest(call: WorkerCall, path: str) -> int | None:
    """Return the newest time of a regular file in the archive *path*, in seconds [REP-1].

    Returns None where the file is no archive, a damaged one, or has no regular files.
    """
    from pybuild.executor.files.archives import Damaged, capped, open_archive
    from pybuild.executor.zygote.faults import Fault
    from pybuild.image.layer.tarreader import TarReader

    fd = os.open(path, _OPEN)
    try:
        source = open_archive(fd)
        if source is None:
            return None
        newest_ns: int | None = None
        reader = TarReader(capped(source, os.path.basename(path), _MAX_BYTES))
        while (member := reader.next()) is not None:
            if member.kind in _REGULAR and (newest_ns is None or member.mtime_ns > newest_ns):
                newest_ns = member.mtime_ns
    except Damaged:
        return None
    except Exception as error:
        from pybuild.model.errors import PybuildError

        if isinstance(error, (Fault, PybuildError)):
            return None
        raise
    finally:
        os.close(fd)
    return None if newest_ns is None else newest_ns // 1_000_000_000


def digest(
    call: WorkerCall, mount_dir: str, deltas: Sequence[str], selection: Selection
) -> TreeDigest | MissingPath:
    """Digest what *selection* picks from the tree of *deltas* (base first), mounted on *mount_dir*."""
    from pybuild.executor.files.apply import Mounts
    from pybuild.executor.trees.treehash import NotFound, tree_digest

    sys.setrecursionlimit(_DEEP)
    with Mounts(mount_dir) as mounts, mounts.tree(DeltaStack(deltas)) as tree:
        try:
            return TreeDigest(*tree_digest(tree, selection))
        except NotFound as missing:
            from pybuild.executor.trees.nearby import hints_near

            hints = hints_near(tree, missing.path, _COPIED_FROM, "/")
            return MissingPath(missing.path, hints, missing.above_pattern)
