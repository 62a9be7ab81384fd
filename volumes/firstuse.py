"""The worker function that gives a new volume what the image has in its place."""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.apply import Mounts, apply
from pybuild.executor.files.selecting import find
from pybuild.executor.files.tree import Tree
from pybuild.executor.files.values import CopyPath, DeltaStack, OwnerMode
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.model.border import WorkerCall


def fill(
    call: WorkerCall,
    mount_dir: str,
    deltas: Sequence[str],
    path: str,
    data: str,
    *,
    copy: bool,
    subpath: str = "",
) -> bool:
    """Copy the directory *path* of the tree of *deltas* to the empty directory *data*; tell whether.

    Owners, modes, attributes, times and hard links come along, and *data* gets the directory's own
    owner and mode. Somebody else may not fill *data* meanwhile.

    Args:
        copy: False: only see that there is no file in its place.
        subpath: of *data*, an empty directory that is filled in its place, links followed inside.

    Raises:
        Fault: user; there is a file. OSError: the file system failed us.
    """
    look = _look(mount_dir, deltas, path)
    if look is None or not copy or not _is_empty(data, subpath):
        return False
    if subpath:
        look = _owner_and_mode(os.stat(data))
    action = CopyPath(
        input=0,
        source=path,
        dest="/" + subpath,
        wildcard=False,
        allow_empty=True,
        contents_only=True,
        unpack=False,
        follow_source_links=True,
        parents_pivot=None,
        make_parents=False,
        exclude=(),
        mode=None,
        owner=None,
        mtime_ns=None,
        is_scratch=True,
    )
    apply(call, mount_dir, data, inputs={0: DeltaStack(deltas)}, actions=[action], look=look)
    return True


def _look(mount_dir: str, deltas: Sequence[str], path: str) -> OwnerMode | None:
    """Return owner and mode of the directory; None where nothing is.

    Raises:
        Fault: user; there is a file.
    """
    with Mounts(mount_dir) as mounts, mounts.tree(DeltaStack(deltas)) as tree:
        try:
            place = find(tree, path, follow=True)
        except FileNotFoundError:
            return None
        with place:
            if place.status is None:
                return None
            if not stat.S_ISDIR(place.status.st_mode):
                raise Fault(USER, f"cannot mount volume over existing file, file exists {path}")
            return _owner_and_mode(place.status)


def _owner_and_mode(status: os.stat_result) -> OwnerMode:
    return OwnerMode(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def _is_empty(data: str, subpath: str) -> bool:
    """Return whether the path of the tree *data* is a directory with nothing in it."""
    with Tree.open(data) as tree:
        try:
            place = find(tree, subpath, follow=True)
        except (FileNotFoundError, Fault):  # also links without end
            return False
        with place:
            if not place.is_dir:
                return False
            fd = place.open_dir()
            try:
                return not os.listdir(fd)
            finally:
                os.close(fd)
